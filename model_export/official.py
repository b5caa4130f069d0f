"""The released CLSP checkpoint read as data: safetensors and a tokenizer, no code of theirs, weights in memory once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from model_export.bundle import hash_file
from model_export.meta_model import fill, hollow_model
from training.model import Clsp, ClspConfig, TextConfig
from training.model.checkpoint import Card, CheckpointError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PREFIX = "model."
LISTED = 20  # keys that one line of a refusal names
SPECIAL = ("<s>", "<pad>", "</s>")

Shape = tuple[int, ...]


class _Index(BaseModel):
    weight_map: dict[str, str]


@dataclass(frozen=True)
class Differences:
    """How a checkpoint's keys and shapes differ from the network's."""

    missing: list[str]
    extra: list[str]
    mismatched: dict[str, tuple[Shape, Shape]]
    """key -> (the network's shape, the checkpoint's)."""

    def lines(self) -> list[str]:
        """One line for each kind of difference, none when there is none."""
        wrong = [f"{key} is {list(found)}, not {list(want)}" for key, (want, found) in self.mismatched.items()]
        kinds = {"missing": self.missing, "extra": self.extra, "of another shape": wrong}
        return [f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in kinds.items() if keys]


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more


def load_official(folder: Path, config: ClspConfig | None = None) -> Clsp:
    """Read a released folder's weights into our modules, in evaluation mode; files stay mapped, not copied.

    `config` is the official one by default. Raises CheckpointError: no weights, a shard that is absent or damaged, or
    keys and shapes that differ, each named.
    """
    model = hollow_model(config or ClspConfig())
    places = find_tensors(folder)
    stripped = {_strip(key): (file, key) for key, file in places.items()}
    found = {_strip(key): shape for key, shape in read_shapes(places).items()}
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    lines = compare(wanted, found).lines()
    if lines:
        raise CheckpointError(f"{folder} is not this network's checkpoint; " + "; ".join(lines))
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(places.values())):
        with safe_open(file, "pt") as shard:
            tensors |= {key: shard.get_tensor(stored).float() for key, (at, stored) in stripped.items() if at == file}
    return fill(model, tensors)


def compare(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> Differences:
    """Keys and shapes of the network against a checkpoint's."""
    return Differences(
        missing=[key for key in wanted if key not in found],
        extra=[key for key in found if key not in wanted],
        mismatched={key: (wanted[key], found[key]) for key in wanted if key in found and wanted[key] != found[key]},
    )


def _strip(key: str) -> str:
    return key.removeprefix(PREFIX)


def find_tensors(folder: Path) -> dict[str, Path]:
    """Every stored key and the file that holds it, of a single file or of shards.

    Raises CheckpointError when the weights, or a shard that the index names, are absent.
    """
    if (folder / INDEX).is_file():
        try:
            names = _Index.model_validate_json((folder / INDEX).read_bytes()).weight_map
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise CheckpointError(f"{folder / INDEX} has no weight_map that can be read: {why}") from error
        places = {key: folder / Path(name).name for key, name in names.items()}
        absent = sorted({file.name for file in places.values() if not file.is_file()})
        if absent:
            raise CheckpointError(f"{folder} lacks {', '.join(absent)}, which {INDEX} names")
        return places
    if not (folder / WEIGHTS).is_file():
        others = (
            ", ".join(sorted(file.name for file in folder.glob("*"))) or "nothing" if folder.is_dir() else "no folder"
        )
        raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX} (there is {others}); pickles are not read")
    with _opened(folder / WEIGHTS) as file:
        return dict.fromkeys(file.keys(), folder / WEIGHTS)


def read_shapes(places: Mapping[str, Path]) -> dict[str, Shape]:
    """The shape of every stored key, from the files' headers alone."""
    shapes: dict[str, Shape] = {}
    for path in sorted(set(places.values())):
        with _opened(path) as file:
            held = set(file.keys())
            absent = [key for key, at in places.items() if at == path and key not in held]
            if absent:
                raise CheckpointError(f"{path} lacks {_some(absent)}, which {INDEX} places there")
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key, at in places.items() if at == path}
    return shapes


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def load_tokenizer(folder: Path, config: TextConfig) -> Tokenizer:
    """RoBERTa's tokenizer from `tokenizer.json`, or `vocab.json` and `merges.txt`, in a folder or its `roberta-base`.

    `folder` may be a tokenizer.json itself. Raises CheckpointError when there is none, or it is not the text tower's.
    """
    for place in (folder, folder / "roberta-base"):
        single = place if place.is_file() else place / "tokenizer.json"
        vocab, merges = place / "vocab.json", place / "merges.txt"
        try:
            if single.is_file():
                return _checked(Tokenizer.from_file(str(single)), single, config)
            if vocab.is_file() and merges.is_file():
                return _checked(_byte_level_bpe(vocab, merges, config), vocab, config)
        except CheckpointError:
            raise
        except Exception as error:  # the tokenizers package raises bare Exception
            raise CheckpointError(f"the tokenizer in {place} can't be read: {error}") from error
    raise CheckpointError(
        f"{folder} has no tokenizer: put roberta-base's tokenizer.json, or its vocab.json and merges.txt, there or in "
        "a folder roberta-base inside it, or name its place with --tokenizer"
    )


def _byte_level_bpe(vocab: Path, merges: Path, config: TextConfig) -> Tokenizer:
    tokenizer = Tokenizer(BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    start, end = ("<s>", config.bos_token_id or 0), ("</s>", config.eos_token_id or 0)
    tokenizer.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=False)
    tokenizer.add_special_tokens(
        [token for token in (*SPECIAL, "<unk>", "<mask>") if tokenizer.token_to_id(token) is not None]
    )
    return tokenizer


def _checked(tokenizer: Tokenizer, path: Path, config: TextConfig) -> Tokenizer:
    wanted = dict(zip(SPECIAL, (config.bos_token_id, config.pad_token_id, config.eos_token_id), strict=True))
    for token, number in wanted.items():
        if tokenizer.token_to_id(token) != number:
            raise CheckpointError(f"{path}: {token} is {tokenizer.token_to_id(token)}, the text tower's is {number}")
    size = tokenizer.get_vocab_size()
    if size > config.vocab_size:
        raise CheckpointError(f"{path} has {size} tokens, the text tower {config.vocab_size}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = tokenizer.encode("a").ids
    if ids[:1] != [config.bos_token_id] or ids[-1:] != [config.eos_token_id]:
        raise CheckpointError(f"{path} does not put a text between <s> and </s>")
    return tokenizer


def official_card(folder: Path, *, name: str, version: str, window_s: float, hop_s: float, scale: float) -> Card:
    """What the bundle says of the released weights. The calibration is a guess from the temperature, and says so."""
    files = sorted(set(find_tensors(folder).values()))
    return Card(
        name=name,
        version=version,
        licence="Apache-2.0",
        provenance={
            "model": "CLSP (arXiv 2601.03065), released weights read as safetensors",
            "weights_sha256": {file.name: hash_file(file) for file in files},
            "calibration": "not fitted: the temperature's scale around cosine 0.3",
        },
        calibration={"scale": scale, "bias": -0.3 * scale},
        window_s=window_s,
        hop_s=hop_s,
    )
