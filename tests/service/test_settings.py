"""Settings: read from CLSP_* only, checked at start-up with the field named, and never a secret in clear."""

import hashlib
from dataclasses import asdict
from typing import Any

import pytest
from pydantic import ValidationError

from index.ann.plan import IndexSettings
from service.settings import DEFAULT_BUNDLE, Settings

DIGEST = hashlib.sha256(b"secret").hexdigest()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("CLSP_")]:
        monkeypatch.delenv(name)


def test_defaults_serve_the_shipped_bundle_on_localhost_only() -> None:
    settings = Settings()
    assert settings.bundle == DEFAULT_BUNDLE
    assert settings.host == "127.0.0.1"
    assert settings.api_keys == []
    assert settings.cors_origins == []


def test_every_option_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLSP_PORT", "9001")
    monkeypatch.setenv("CLSP_MAX_AUDIO_S", "12.5")
    monkeypatch.setenv("CLSP_CORS_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("CLSP_API_KEYS", f'["ci:read+write:{DIGEST}"]')
    settings = Settings()
    assert (settings.port, settings.max_audio_s) == (9001, 12.5)
    assert settings.cors_origins == ["https://a.example", "https://b.example"]
    (key,) = settings.api_keys
    assert (key.name, key.scopes, key.sha256) == ("ci", {"read", "write"}, DIGEST)


@pytest.mark.parametrize(
    "entry", ["secret", f"ci:admin:{DIGEST}", "ci:read:secret", f":read:{DIGEST}", f"ci::{DIGEST}"]
)
def test_keys_that_are_not_keys(entry: str) -> None:
    with pytest.raises(ValidationError, match="api_keys"):
        Settings(api_keys=[entry])


def test_two_keys_with_one_name() -> None:
    with pytest.raises(ValidationError, match="share one name"):
        Settings(api_keys=[f"ci:read:{DIGEST}", f"ci:write:{DIGEST}"])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"port": 70_000}, "port"),
        ({"max_audio_s": 0}, "max_audio_s"),
        ({"min_sample_rate": 50_000, "max_sample_rate": 48_000}, "min_sample_rate"),
        ({"queue_audio_s": 100.0, "max_audio_s": 200.0}, "queue_audio_s"),
        ({"queue_texts": 10, "max_texts": 20}, "queue_texts"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
)
def test_wrong_values_name_the_field(values: dict[str, float], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Settings(**values)


def test_broken_json_in_the_environment_is_an_error_of_that_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLSP_API_KEYS", "[broken")
    with pytest.raises(ValidationError, match="api_keys"):
        Settings()


def test_the_index_is_given_every_option_that_it_has() -> None:
    assert Settings().indexing() == IndexSettings()
    other: dict[str, Any] = {
        "memory_mib": 3,
        "flat_mib": 3,
        "delta_mib": 3,
        "recall": 0.5,
        "exact_ids": 3,
        "rerank": 3,
        "regrow": 3.5,
        "dead_share": 0.5,
        "snapshot_share": 0.5,
        "build_threads": 3,
        "build_niceness": 3,
        "build_apart": False,
        "filter_cache_mib": 3,
    }
    assert {f"index_{name}" for name in other} == {name for name in Settings.model_fields if name.startswith("index_")}
    changed = asdict(Settings(**{f"index_{name}": value for name, value in other.items()}).indexing())
    before = asdict(IndexSettings())
    # The service always tends them in the background.
    assert [name for name in before if changed[name] == before[name]] == ["background"]
    assert changed["flat_bytes"] == 3 * 1024 * 1024
