"""How fast the towers run: our modules in eager PyTorch against exported bundles, as ratios of the same run.

    python benchmarks/towers.py CHECKPOINT BUNDLE [BUNDLE ...]

CHECKPOINT is a released folder, BUNDLEs what `clsp export official` wrote from it. In each round every contender runs
once, so that a busy machine slows all of them; next to the ratio of median wall times stands that of CPU times, which
other processes disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

sys.path.insert(0, str(Path(__file__).parent))
from results import console, report

from model_export.bundle import Bundle
from model_export.official import load_official
from model_export.runtime import BundleRuntime, TokenizedText, arithmetic
from model_export.verify import voiced_sound
from training.model import Clsp, ClspConfig

Call = Callable[[], object]


def main() -> int:
    """Print the tables; JSON goes to benchmarks/results/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--config", type=Path, help="the recipe's hyper-parameters of another size")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, nargs="+", default=[2.0, 10.0, 30.0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--profile", action="store_true", help="where the time of a 10 s clip goes, by operation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_official(options.checkpoint, options.config and ClspConfig.from_recipe_json(options.config))
    runtimes = {
        f"{bundle.manifest.precision}/{arithmetic(bundle)}": BundleRuntime(bundle, threads=options.threads)
        for bundle in map(Bundle.load, options.bundles)
    }
    if options.profile:
        for name, runtime in runtimes.items():
            print_profile(name, runtime, options.threads)
        return 0
    rows = []
    for batch in options.batches:
        rows += [_speech_row(model, runtimes, seconds, batch, options.rounds) for seconds in options.seconds]
        rows += [_text_row(model, runtimes, tokens, batch, options.rounds) for tokens in options.tokens]
    columns = ["case", "eager ms", *(f"{name} {kind}" for name in runtimes for kind in ("ms", "wall", "cpu"))]
    title = f"Towers, {options.threads} threads: eager time over bundle's time, wall clock and CPU (weights/arithmetic)"
    report("towers", title, columns, rows)
    return 0


def _speech_row(
    model: Clsp, runtimes: dict[str, BundleRuntime], seconds: float, batch: int, rounds: int
) -> dict[str, Any]:
    clips = [voiced_sound(seconds, seed) for seed in range(batch)]
    waveform, lengths = torch.from_numpy(np.stack(clips)), torch.tensor([len(clip) for clip in clips])

    def eager() -> object:
        with torch.inference_mode():
            return model.embed_speech(waveform, lengths)

    calls = {name: _speech_call(runtime, clips) for name, runtime in runtimes.items()}
    return _race(f"{batch} x {seconds:g} s", eager, calls, rounds)


def _speech_call(runtime: BundleRuntime, clips: Sequence[np.ndarray]) -> Call:
    return lambda: runtime.embed_speech(clips)


def _text_row(model: Clsp, runtimes: dict[str, BundleRuntime], tokens: int, batch: int, rounds: int) -> dict[str, Any]:
    ids = np.random.default_rng(0).integers(5, model.config.text.vocab_size, (batch, tokens))
    texts = [TokenizedText(ids=row.tolist(), tokens=tokens, truncated=False) for row in ids]
    inputs = torch.from_numpy(ids)

    def eager() -> object:
        with torch.inference_mode():
            return model.embed_text(inputs, torch.ones_like(inputs))

    calls = {name: _text_call(runtime, texts) for name, runtime in runtimes.items()}
    return _race(f"{batch} x {tokens} tokens", eager, calls, rounds)


def _text_call(runtime: BundleRuntime, texts: Sequence[TokenizedText]) -> Call:
    return lambda: runtime.embed_tokens(texts)


def _race(case: str, eager: Call, calls: dict[str, Call], rounds: int) -> dict[str, Any]:
    contenders = {"eager": eager, **calls}
    for call in contenders.values():
        call()
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            before = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - before[0])
            cpu[name].append(time.process_time() - before[1])
    middle = {name: float(np.median(times)) for name, times in wall.items()}
    least = {name: min(times) for name, times in cpu.items()}
    row: dict[str, Any] = {"case": case, "eager ms": round(middle["eager"] * 1000)}
    for name in calls:
        row[f"{name} ms"] = round(middle[name] * 1000)
        row[f"{name} wall"] = middle["eager"] / middle[name]
        row[f"{name} cpu"] = least["eager"] / least[name]
    console.print(row, style="dim", highlight=False)
    return row


def print_profile(name: str, runtime: BundleRuntime, threads: int, runs: int = 4) -> None:
    """The operations of the speech graph by their share of a 10 s clip's time."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as scratch:
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(runtime.bundle.speech_path(), options)
        clip = voiced_sound(10.0, 1)
        for _ in range(runs):
            session.run(None, {"waveform": clip[None], "lengths": np.array([len(clip)])})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault((event["args"]["op_name"], event["name"]), []).append(event["dur"] / 1000)
    spent: dict[str, float] = {}
    nodes: Counter[str] = Counter()
    for (op, _), durations in times.items():
        # A node that folding named like another appears several times a run.
        count = max(1, len(durations) // runs)
        quiet = sorted(durations)[: max(1, len(durations) // 2)]
        spent[op] = spent.get(op, 0.0) + float(np.mean(quiet)) * count
        nodes[op] += count
    total = sum(spent.values())
    rows = [
        {"operation": op, "nodes": nodes[op], "ms": ms, "share %": 100 * ms / total}
        for op, ms in sorted(spent.items(), key=lambda pair: -pair[1])[:16]
    ]
    title = f"Operations of a 10 s clip, {name}, {threads} threads: {total:.0f} ms"
    report(f"towers-profile-{name.replace('/', '-')}", title, ("operation", "nodes", "ms", "share %"), rows)


if __name__ == "__main__":
    sys.exit(main())
