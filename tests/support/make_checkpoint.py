"""Writes a folder like the released checkpoint, from the reference's deterministic weights; also a script.

python tests/support/make_checkpoint.py REFERENCE OUT [official] [--shards N]
"""

import argparse
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

Draw = Callable[[str, tuple[int, ...]], np.ndarray]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # their ids are RoBERTa's 0 to 3; its <mask> comes last


def load_draw(reference: Path) -> Draw:
    """The reference's `test_tensor`."""
    spec = importlib.util.spec_from_file_location("reference_weights", reference / "weights.py")
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    return weights.test_tensor


def read_keys(reference: Path, name: str) -> dict[str, tuple[int, ...]]:
    """State-dict keys and shapes of a configuration that the reference lists."""
    rows = [line.split("\t") for line in (reference / f"keys_{name}.tsv").read_text().splitlines()]
    return {key: tuple(int(n) for n in shape.split("x") if n) for key, shape, kind in rows if kind == "float32"}


def tensors(keys: dict[str, tuple[int, ...]], draw: Draw) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor in turn, with the released prefix."""
    for key, shape in keys.items():
        yield f"model.{key}", draw(key, shape)


def write_checkpoint(folder: Path, keys: dict[str, tuple[int, ...]], draw: Draw, *, shards: int = 1) -> None:
    """Write `model.safetensors`, or `shards` files and their index, and a tokenizer of the right special tokens.

    One shard at a time is in memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(keys)
    parts = [dict.fromkeys(names[i::shards]) for i in range(shards)]
    weight_map = {}
    for i, part in enumerate(parts):
        name = "model.safetensors" if shards == 1 else f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        held = dict(tensors({key: keys[key] for key in part}, draw))
        save_file(held, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(held, name)
        del held
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_tokenizer(folder: Path, *, size: int) -> None:
    """Write RoBERTa's two files, `vocab.json` and `merges.txt`, of a byte-level BPE learned from a few captions.

    `size` is the most tokens it may have; the byte alphabet needs 256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    voices = ("A calm older man", "a woman", "An excited young speaker", "the speaker")
    manners = ("speaks slowly in a low voice", "talks fast and loudly", "whispers softly", "sounds sad and tired")
    captions = [f"{voice} {manner}." for voice in voices for manner in manners]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.model.save(str(folder))


def main() -> None:
    """Write a checkpoint from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("name", nargs="?", default="official", help="official or small")
    parser.add_argument("--shards", type=int, default=1)
    options = parser.parse_args()
    keys = read_keys(options.reference, options.name)
    write_checkpoint(options.out, keys, load_draw(options.reference), shards=options.shards)
    write_tokenizer(options.out / "roberta-base", size=500)


if __name__ == "__main__":
    main()
