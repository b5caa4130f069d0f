"""A bundle in ONNX Runtime: clips and captions in, unit vectors out, without torch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model_export.bundle import Bundle, BundleError
from model_export.windows import plan_runs

Vectors = NDArray[np.float32]

RUN_S = 30.0  # seconds of padded audio in one run of the speech graph
# Padded tokens in one run of the text graph. More of them leave a CPU's caches: short texts take 8 % longer at 1024.
RUN_TOKENS, ACCELERATOR_RUN_TOKENS = 384, 1024


@dataclass(frozen=True)
class TokenizedText:
    """A caption's token ids, special tokens included; `tokens` counts them before truncation."""

    ids: list[int]
    tokens: int
    truncated: bool


class BundleRuntime:
    """Both towers of a bundle. Thread-safe for calls; results do not depend on how inputs are batched."""

    def __init__(
        self, bundle: Bundle, *, threads: int = 0, providers: Sequence[str] | None = None, run_s: float = RUN_S
    ) -> None:
        """Open both graphs. `threads` per tower, 0 for the runtime's own choice; `providers` in order of preference.

        At most `run_s` seconds of padded audio go through the graph at a time, whatever is asked for at once: that
        bounds memory. Raises BundleError when a graph or the tokenizer can't be loaded.
        """
        self.bundle = bundle
        self.run_s = run_s
        # Rounding to 8 bits makes a large step of the last bit, which padding or a place in the batch may change:
        # clips run alone, texts of one length together.
        self._clips_alone = arithmetic(bundle) == "int8"
        self._equal_texts = arithmetic(bundle, "text") == "int8"
        self.dim = bundle.manifest.embedding_dim
        available = available_providers()
        wanted = list(providers) if providers else [p for p in ("CUDAExecutionProvider",) if p in available]
        chain = [*wanted, *(p for p in ("CPUExecutionProvider",) if p not in wanted)]
        # The blocked layout of the CPU provider (1.32) crashes on float16 convolutions.
        off = ["NchwcTransformer"] if arithmetic(bundle) == "fp16" else None

        def opened(path: Path, count: int) -> ort.InferenceSession:
            return ort.InferenceSession(path, session_options(count), providers=chain, disabled_optimizers=off)

        try:
            self._speech = opened(bundle.speech_path(), threads)
            # Of clips that run alone, `threads` at a time with a thread each take less time than one after the other.
            self._abreast = opened(bundle.speech_path(), 1) if self._clips_alone and threads > 1 else None
            self._text = opened(bundle.text_path(), threads)
            self._tokenizer = load_tokenizer(bundle.tokenizer_path())
        except Exception as error:  # the runtime and the tokenizer raise types of their own, some bare Exception
            raise BundleError(f"{bundle.path} can't be served: {error}") from error
        self.providers: list[str] = self._speech.get_providers()
        on_cpu = self.providers[0] == "CPUExecutionProvider"
        self._run_tokens = RUN_TOKENS if on_cpu else ACCELERATOR_RUN_TOKENS
        self._crew = ThreadPoolExecutor(max(1, threads), thread_name_prefix="clsp-clip")
        self.clips_abreast: int | None = max(1, threads) if self._clips_alone else None
        """How many clips run at one time where each runs alone; None where they share a run."""

    def embed_speech(self, waves: Sequence[NDArray[np.float32]]) -> Vectors:
        """Clips [samples] at the bundle's rate in [-1, 1] -> [N, D], unit L2. Raises ValueError on an empty clip."""
        if not waves:
            return np.zeros((0, self.dim), np.float32)
        lengths = np.array([len(wave) for wave in waves], np.int64)
        if lengths.min() == 0:
            raise ValueError("a clip has no samples")
        most = 0 if self._clips_alone else int(self.run_s * self.bundle.manifest.sample_rate)
        out = np.empty((len(waves), self.dim), np.float32)
        runs = plan_runs(lengths.tolist(), most, equal=False)
        abreast = self._abreast if len(runs) > 1 else None

        def run(places: list[int]) -> None:
            batch = np.zeros((len(places), int(lengths[places].max())), np.float32)
            for row, place in zip(batch, places, strict=True):
                row[: lengths[place]] = waves[place]
            out[places] = (abreast or self._speech).run(None, {"waveform": batch, "lengths": lengths[places]})[0]

        # Longest first, so that the last one to end began early.
        for _ in (map if abreast is None else self._crew.map)(run, reversed(runs)):
            pass
        return out

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Token ids of each text, cut to the bundle's `max_tokens` with the closing token kept."""
        limit = self.bundle.manifest.max_tokens
        rows = []
        for encoding in self._tokenizer.encode_batch(list(texts)):
            ids = encoding.ids
            cut = ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
            rows.append(TokenizedText(ids=cut, tokens=len(ids), truncated=len(ids) > limit))
        return rows

    def embed_tokens(self, rows: Sequence[TokenizedText]) -> Vectors:
        """Tokenized texts -> [N, D], unit L2."""
        if not rows:
            return np.zeros((0, self.dim), np.float32)
        lengths = [len(row.ids) for row in rows]
        out = np.empty((len(rows), self.dim), np.float32)
        for places in plan_runs(lengths, self._run_tokens, equal=self._equal_texts):
            ids = np.full((len(places), max(lengths[place] for place in places)), self._pad, np.int64)
            mask = np.zeros_like(ids)
            for i, place in enumerate(places):
                ids[i, : lengths[place]] = rows[place].ids
                mask[i, : lengths[place]] = 1
            out[places] = self._text.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return out

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Texts -> [N, D], unit L2."""
        return self.embed_tokens(self.tokenize(texts))

    @property
    def _pad(self) -> int:
        for token in ("<pad>", "[PAD]"):
            found = self._tokenizer.token_to_id(token)
            if found is not None:
                return int(found)
        return 0


def available_providers() -> list[str]:
    """Execution providers of the ONNX Runtime that is installed."""
    return list(ort.get_available_providers())


def session_options(threads: int) -> ort.SessionOptions:
    """What a graph is opened with; `threads` of 0 leaves the choice to the runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Stored int8 weights are unfolded to float32 once, at load, instead of at every call.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Without VNNI, sums of unsigned by signed bytes saturate (AVX2): take the slower products that do not.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Idle threads sleep instead of spinning on cores that decoding and search need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def arithmetic(bundle: Bundle, tower: str = "speech") -> str:
    """What the sums of a bundle's tower are made in: fp32, fp16, int8 or int16."""
    export = bundle.manifest.provenance.get("export")
    if not isinstance(export, dict):
        return "fp32"
    both = export.get("arithmetic", "fp32")
    return str(export.get("text_arithmetic", both) if tower == "text" else both)


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that neither pads nor truncates on its own: both are the caller's, and reported."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
