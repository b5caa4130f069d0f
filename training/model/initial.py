"""Starting weights from local folders or installed packages; nothing is fetched from a hub."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.model import Clsp, WhisperConfig
from training.model.whisper import from_whisper_keys

WEIGHTS = "model.safetensors"
RELEASED = "model."  # before each key of the released checkpoint


class InitialWeightsError(ValueError):
    """Starting weights are absent or not those of the configured tower."""


def weights_folder(name: str) -> Path:
    """The folder that `name` stands for. Raises InitialWeightsError when it has no model.safetensors."""
    folder = locate(name)
    if not (folder / WEIGHTS).is_file():
        raise InitialWeightsError(f"{folder} has no {WEIGHTS}")
    return folder


def locate(name: str) -> Path:
    """A folder from a path, or from `package:NAME/folder` inside an installed package.

    Raises InitialWeightsError when the package is not installed.
    """
    if not name.startswith("package:"):
        return Path(name).expanduser()
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InitialWeightsError(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0]) / inside


def tokenizer_file(name: str) -> Path:
    """The tokenizer.json of a folder or package. Raises InitialWeightsError when there is none."""
    file = locate(name) / "tokenizer.json"
    if not file.is_file():
        raise InitialWeightsError(f"{file} does not exist")
    return file


def load_speech_tower(model: Clsp, folder: Path) -> None:
    """Fill the speech tower: a Whisper one from a `WhisperEncoder` state dict, a Zipformer from keys that are ours.

    Ours are the released checkpoint's, `encoder_embed.*` and `encoder.*`, with or without its prefix `model.`.
    """
    state = _read(folder / WEIGHTS)
    if isinstance(model.config.speech, WhisperConfig):
        renamed = from_whisper_keys(state, model.config.speech)
    else:
        stripped = {key.removeprefix(RELEASED): value for key, value in state.items()}
        renamed = {k: v.float() for k, v in stripped.items() if k.startswith(("encoder_embed.", "encoder."))}
    _fill(model, renamed, ("encoder_embed.", "encoder."), folder)


def load_official(model: Clsp, folder: Path) -> None:
    """Fill a whole model from the released checkpoint's safetensors, one file or shards.

    Raises InitialWeightsError when there are none, or their keys and shapes are not the model's.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InitialWeightsError(f"{folder} has no .safetensors; pickles are not read")
    found = {key.removeprefix(RELEASED): value.float() for file in files for key, value in _read(file).items()}
    unknown = sorted(found.keys() - model.state_dict().keys())
    if unknown:
        raise InitialWeightsError(f"{folder} has {len(unknown)} weights that the model lacks, such as {unknown[0]}")
    _fill(model, found, ("",), folder)


def load_text_tower(model: Clsp, folder: Path) -> None:
    """Fill the text tower from a folder with a BERT or RoBERTa state dict (prefixes are stripped, extras ignored)."""
    wanted = {key for key in model.state_dict() if key.startswith("text_encoder.")}
    renamed = {}
    for key, tensor in _read(folder / WEIGHTS).items():
        name = "text_encoder." + key.removeprefix("bert.").removeprefix("roberta.")
        if name in wanted:
            renamed[name] = tensor.float()
    _fill(model, renamed, ("text_encoder.",), folder)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise InitialWeightsError(f"{file} is not a safetensors file: {error}") from error


def _fill(model: Clsp, tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], folder: Path) -> None:
    missing = [key for key in model.state_dict() if key.startswith(prefixes) and key not in tensors]
    if missing:
        raise InitialWeightsError(f"{folder} lacks {len(missing)} weights of the tower, the first is {missing[0]}")
    try:
        model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise InitialWeightsError(f"{folder}: {error}") from error
