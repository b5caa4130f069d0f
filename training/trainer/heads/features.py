"""Pooled vectors of frozen towers, computed once and kept on disk: minutes of encoding, seconds of training."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from training.audio import load_clip
from training.model import Clsp

BATCH_S = 48.0  # padded seconds of audio a forward pass


def tower_hash(model: Clsp, prefixes: tuple[str, ...]) -> str:
    """sha256 hex, 16 digits, over the weights whose keys start with `prefixes`, and the config of both towers."""
    digest = hashlib.sha256(json.dumps([model.config.speech.model_dump(), model.config.text.model_dump()]).encode())
    for key, value in sorted(model.state_dict().items()):
        if key.startswith(prefixes):
            digest.update(key.encode() + value.detach().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def speech_features(
    model: Clsp,
    paths: Sequence[Path],
    cache: Path,
    *,
    max_s: float = 10.0,
    tick: Callable[[int], None] = lambda n: None,
) -> Tensor:
    """Pooled speech vectors [M, C] float32 of clips in order, from the cache where it has them.

    The cache holds one float16 array a clip, named by path and size under the tower's hash: a run that was killed goes
    on where it stopped. `tick(n)` hears of each n clips done.
    """
    prefixes = ("frontend", "encoder_embed", "encoder.")
    folder = cache / f"speech-{tower_hash(model, prefixes)}-{max_s:g}s"
    folder.mkdir(parents=True, exist_ok=True)
    pooled = torch.zeros(len(paths), model.config.speech.pooled_dim)
    missing = []
    for i, path in enumerate(paths):
        file = folder / _cache_name(path)
        if file.exists():
            pooled[i] = torch.from_numpy(np.load(file)).float()
        else:
            missing.append(i)
    tick(len(paths) - len(missing))
    missing.sort(key=lambda i: paths[i].stat().st_size)
    for start in range(0, len(missing), 32):
        part = missing[start : start + 32]
        rows = _encode(model, [load_clip(paths[i], max_s) for i in part]).half()
        for i, row in zip(part, rows, strict=True):
            partial = folder / (_cache_name(paths[i]) + ".partial.npy")
            np.save(partial, row.numpy())
            partial.replace(folder / _cache_name(paths[i]))
        pooled[part] = rows.float()
        tick(len(part))
    return pooled


def _cache_name(path: Path) -> str:
    key = f"{path.resolve()} {path.stat().st_size}"
    return hashlib.sha256(key.encode()).hexdigest()[:32] + ".npy"


def load_plain_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that neither pads nor truncates on its own."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _encode(model: Clsp, clips: Sequence[NDArray[np.float32]]) -> Tensor:
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    out = torch.zeros(len(clips), model.config.speech.pooled_dim)
    batch: list[int] = []
    for place, i in enumerate(order):
        batch.append(i)
        longest = len(clips[order[min(place + 1, len(order) - 1)]])
        if place + 1 == len(order) or longest * (len(batch) + 1) > BATCH_S * 16000:
            lengths = torch.tensor([len(clips[j]) for j in batch])
            wave = torch.zeros(len(batch), int(lengths.max()))
            for row, j in zip(wave, batch, strict=True):
                row[: len(clips[j])] = torch.from_numpy(clips[j])
            out[batch] = model.pool_speech(wave, lengths)
            batch = []
    return out


@torch.no_grad()
def text_features(model: Clsp, tokenizer: Tokenizer, texts: Sequence[str], cache: Path | None = None) -> Tensor:
    """Pooled text vectors [M, C] in order, batched by length; a repeated text is encoded once.

    With `cache`, each text's vector is kept there under the tower's hash, so that training without a corpus, or with a
    few captions more, encodes what is new. The tokenizer neither pads nor truncates.
    """
    unique = sorted(set(texts))
    folder = cache / f"text-{tower_hash(model, ('text_encoder.',))}" if cache is not None else None
    known = _read_texts(folder) if folder else {}
    new = [text for text in unique if _text_key(text) not in known]
    rows = [encoding.ids[: model.config.text.max_tokens] for encoding in tokenizer.encode_batch(new)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    fresh = np.zeros((len(rows), model.config.text.hidden_size), np.float16)
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        fresh[part] = model.pool_text(*pad_tokens([rows[i] for i in part], model.config.text.pad_token_id)).numpy()
    if folder and new:
        _keep_texts(folder, [_text_key(text) for text in new], fresh)
    known |= {_text_key(text): row for text, row in zip(new, fresh, strict=True)}
    return torch.from_numpy(np.stack([known[_text_key(text)] for text in texts])).float()


def _text_key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:12].hex().encode()


def _read_texts(folder: Path) -> dict[bytes, NDArray[np.float16]]:
    found: dict[bytes, NDArray[np.float16]] = {}
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as part:
            found |= dict(zip(part["keys"].tolist(), part["vectors"], strict=True))
    return found


def _keep_texts(folder: Path, keys: Sequence[bytes], vectors: NDArray[np.float16]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}.npz"
    partial = file.with_suffix(".partial")
    with partial.open("wb") as whole:
        np.savez(whole, keys=np.array(keys), vectors=vectors)
    partial.replace(file)


def pad_tokens(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask int64 [N, L] of rows of unequal length."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask
