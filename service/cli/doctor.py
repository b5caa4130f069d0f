"""`clsp doctor`: what is installed, what would be served, and what stands in the way, before anything is served."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.common import JsonOption
from service.cli.output import console, print_json, table

if TYPE_CHECKING:
    from service.settings import Settings

Status = Literal["ok", "note", "broken"]
_COLOURS = {"ok": "green", "note": "yellow", "broken": "bold red"}
BASE = ("fastapi", "uvicorn", "pydantic", "numpy", "soundfile", "soxr", "tokenizers")
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
INDEXES = ("faiss-cpu", "faiss-gpu-cu12")
TRAIN = ("torch", "transformers", "lhotse", "onnx")

# One name a check, whatever becomes of it: scripts find it in --json by its name.
PROVIDERS, BUNDLE, ENCODERS = "execution providers", "bundle", "encoders"
CPU, DATA, MILVUS, KEYS = "cpu quota", "data folder", "milvus", "api keys"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. A `note` does not stop the service, `broken` does."""

    check: str
    status: Status
    detail: str


def doctor(
    bundle: Annotated[Path | None, typer.Option(help="Model bundle to look at (CLSP_BUNDLE).")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder to look at (CLSP_DATA_DIR).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is installed, what would be served, and what stands in the way.

    Looks at packages, execution providers, the bundle and its hashes, the encoders, the CPU quota and the data folder.
    Exit status 1 when something is broken.
    """
    findings = list(examine(bundle, data_dir))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        report = table("clsp doctor", ("check", "status", "detail"), ())
        for finding in findings:
            colour = _COLOURS[finding.status]
            report.add_row(finding.check, f"[{colour}]{finding.status}[/]", finding.detail.replace("[", r"\["))
        console.print(report)
    if any(finding.status == "broken" for finding in findings):
        raise typer.Exit(1)


def examine(bundle: Path | None, data_dir: Path | None) -> Iterator[Finding]:
    """All findings, in the order in which a later one depends on the earlier ones."""
    yield _python()
    yield from _packages()
    try:
        from service.settings import Settings

        given = {"bundle": bundle, "data_dir": data_dir}
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except (ImportError, ValueError) as error:
        yield Finding("settings", "broken", str(error))
        return
    checks: tuple[tuple[str, Callable[[Settings], Finding]], ...] = (
        (PROVIDERS, _providers),
        (BUNDLE, _bundle),
        (ENCODERS, _inference),
        (CPU, _cpu),
        (MILVUS if settings.milvus_uri else DATA, data_folder),
        (KEYS, _keys),
    )
    for name, check in checks:
        try:
            yield check(settings)
        except Exception as error:  # a broken installation fails in ways nobody lists; each is a finding
            yield Finding(name, "broken", f"{type(error).__name__}: {error}")


def _python() -> Finding:
    found = f"{sys.version.split()[0]} at {sys.executable}"
    return Finding("python", "ok" if sys.version_info >= (3, 11) else "broken", found)


def _packages() -> Iterator[Finding]:
    yield _required("packages", BASE)
    yield _one_of("onnx runtime", RUNTIMES)
    yield _one_of("faiss", INDEXES)
    missing = [name for name in TRAIN if _version(name) is None]
    if missing:
        yield Finding("train extra", "note", f"not installed ({', '.join(missing)}): serving does not need it")
    else:
        yield _required("train extra", TRAIN)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _required(check: str, names: tuple[str, ...]) -> Finding:
    versions = {name: _version(name) for name in names}
    missing = [name for name, found in versions.items() if found is None]
    if missing:
        return Finding(check, "broken", f"not installed: {', '.join(missing)}")
    return Finding(check, "ok", ", ".join(f"{name} {found}" for name, found in versions.items()))


def _one_of(check: str, names: tuple[str, ...]) -> Finding:
    found = [f"{name} {_version(name)}" for name in names if _version(name)]
    if not found:
        return Finding(check, "broken", f"install {' or '.join(names)}: pip install 'clsp-service[cpu]' (or [gpu])")
    return Finding(check, "ok", ", ".join(found))


def _providers(settings: Settings) -> Finding:
    from model_export.runtime import available_providers

    providers = available_providers()
    return Finding(PROVIDERS, "ok" if providers else "broken", ", ".join(providers) or "none")


def _bundle(settings: Settings) -> Finding:
    from model_export.bundle import Bundle, BundleError

    try:
        bundle = Bundle.load(settings.bundle, verify=True)
    except BundleError as error:
        return Finding(BUNDLE, "broken", str(error))
    manifest = bundle.manifest
    size = sum(entry.bytes for entry in manifest.files.values()) / 1e6
    return Finding(
        BUNDLE,
        "ok",
        f"{manifest.name} {manifest.version} ({manifest.licence}) at {bundle.path}: {manifest.embedding_dim} "
        f"dimensions, {size:.1f} MB, {len(manifest.files)} hashes hold, fingerprint {bundle.fingerprint()[:12]}",
    )


def _inference(settings: Settings) -> Finding:
    """Run both encoders once: what hashes cannot tell is whether this machine can execute the graphs."""
    import numpy as np

    from model_export.bundle import Bundle
    from model_export.runtime import BundleRuntime

    started = time.perf_counter()
    runtime = BundleRuntime(Bundle.load(settings.bundle, verify=False), threads=settings.threads or 1)
    second = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    vectors = np.concatenate([runtime.embed_text(["a calm voice"]), runtime.embed_speech([second])])
    took = time.perf_counter() - started
    unit = bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3))
    detail = f"both encoders ran on {', '.join(runtime.providers)}; loading and running took {took:.1f} s"
    return Finding(ENCODERS, "ok" if unit else "broken", detail if unit else "the vectors are not of unit length")


def _cpu(settings: Settings) -> Finding:
    from service.engine.threads import available_cpus

    usable = available_cpus()
    detail = f"{usable} usable of {os.cpu_count()}; an encoder gets {settings.threads or 'as many'} threads"
    return Finding(CPU, "ok", detail)


def data_folder(settings: Settings) -> Finding:
    """Whether a service could take the data folder now; a `note` when another one holds it."""
    from index.errors import StoreLocked
    from index.storage.locks import FolderLock

    if settings.milvus_uri:
        return _milvus(settings)
    folder = settings.data_dir.resolve()
    if not folder.exists():
        parent = next(p for p in folder.parents if p.exists())
        writable = os.access(parent, os.W_OK | os.X_OK)
        detail = f"{folder} will be created" if writable else f"{folder}: {parent} is not writable"
        return Finding(DATA, "ok" if writable else "broken", detail)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return Finding(DATA, "broken", f"{folder} is not a writable folder")
    if not (folder / "lock").exists():
        return Finding(DATA, "ok", f"{folder} is writable and not in use")
    try:
        FolderLock(folder).release()
    except StoreLocked as error:
        return Finding(DATA, "note", f"{error}: a service is running on it")
    return Finding(DATA, "ok", f"{folder} is writable and not in use")


def _milvus(settings: Settings) -> Finding:
    """Whether Milvus answers, and how much it holds."""
    from index.errors import IndexingError
    from service.usecases.open_store import open_store

    try:
        store = open_store(settings)
    except IndexingError as error:
        return Finding(MILVUS, "broken", f"{settings.milvus_uri}: {error}")
    collections = len(store.list_collections())
    store.close()
    return Finding(MILVUS, "ok", f"{collections} collections in Milvus at {settings.milvus_uri}")


def _keys(settings: Settings) -> Finding:
    if settings.api_keys:
        names = ", ".join(f"{key.name} ({'+'.join(sorted(key.scopes))})" for key in settings.api_keys)
        return Finding(KEYS, "ok", names)
    if settings.host in ("127.0.0.1", "localhost", "::1"):
        return Finding(KEYS, "ok", "none, and only this machine can connect")
    return Finding(KEYS, "note", f"none: whoever reaches {settings.host}:{settings.port} can read and write")
