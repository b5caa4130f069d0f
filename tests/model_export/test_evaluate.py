"""`clsp evaluate` and `clsp calibrate` with the shipped bundle: one command a corpus, exit codes with a meaning."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner, Result

from model_export.amend import load_to_amend
from model_export.bundle import CARD, Bundle, BundleError
from model_export.evaluate_cli import INCOMPLETE, calibrate, evaluate
from model_export.export import export_bundle
from model_export.official import load_tokenizer
from model_export.verify import Scope
from tests.support.paths import BUNDLE as SHIPPED
from tests.support.tiny_corpora import write_cremad, write_iemocap, write_ravdess, write_voice
from training.model import Clsp
from training.model.checkpoint import Card


def run(command: object, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "160"})


def test_ravdess_in_one_command(tmp_path: Path) -> None:
    written = write_ravdess(tmp_path / "ravdess", (1, 2), every=5)
    out = tmp_path / "out"
    done = run(evaluate, SHIPPED, "--protocol", "ravdess", "--root", tmp_path / "ravdess", "--out", out)
    assert done.exit_code == INCOMPLETE, done.output  # most of the corpus is missing, and that is said
    report = json.loads((out / "report.json").read_text())
    assert report["coverage"]["judged"] == report["coverage"]["of"] == len(written)
    assert len(report["coverage"]["missing"]) == 1440 - len(written)
    assert list(report["sources"]) == ["ravdess"]
    figures = report["sources"]["ravdess"]
    assert len(figures["emotion"]["labels"]) == 8 and figures["emotion"]["WA"]["chance"] == 12.5
    assert figures["gender"]["labels"] == ["male", "female"]
    assert sum(map(sum, figures["gender"]["confusion"])) == len(written)
    assert {path.name for path in out.iterdir()} == {
        "report.json",
        "report.md",
        "confusion-ravdess-emotion.svg",
        "confusion-ravdess-gender.svg",
        "figures-ravdess.svg",
    }
    assert "## ravdess: 24 clips, 2 speakers" in (out / "report.md").read_text()


def test_cremad_has_emotion_gender_and_age(tmp_path: Path) -> None:
    write_cremad(tmp_path)
    done = run(evaluate, SHIPPED, "--protocol", "crema-d", "--root", tmp_path, "--json", "--resample", "speakers")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    figures = report["sources"]["crema-d"]
    assert figures["age"]["labels"] == ["child", "adult", "middle-aged", "older"]
    assert [sum(row) for row in figures["age"]["confusion"]] == [0, 2, 2, 2]
    assert figures["emotion"]["clips"] == 6 and figures["emotion_heard"]["clips"] == 2
    assert figures["speakers"] == 3 and report["resampled"] == "speakers"
    (tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav").write_bytes(b"RIFF but no audio")
    done = run(evaluate, SHIPPED, "--protocol", "crema-d", "--root", tmp_path)
    assert done.exit_code == INCOMPLETE and "1001_DFA_ANG_XX" in done.output
    assert run(evaluate, SHIPPED, "--protocol", "crema-d", "--root", tmp_path, "--allow-missing").exit_code == 0


def test_iemocap_merges_happy_and_excited(tmp_path: Path) -> None:
    write_iemocap(tmp_path)
    done = run(evaluate, SHIPPED, "--protocol", "iemocap", "--root", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)["sources"]["iemocap"]
    assert figures["emotion"]["labels"] == ["happy", "angry", "sad", "neutral"]
    assert [sum(row) for row in figures["emotion"]["confusion"]] == [2, 1, 1, 5]
    assert figures["gender"]["clips"] == 9


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twenty-four clips of two sources with captions, labels and ratings."""
    rows = []
    for i in range(24):
        low = i % 2 == 0
        write_voice(tmp_path / f"{i}.wav", (100.0 if low else 230.0) + i)
        rows.append(
            {
                "path": f"{i}.wav",
                "source": "studio" if i < 12 else "street",
                "speaker": str(i % 6),
                "gender": "male" if low else "female",
                "captions": [
                    {"text": f"A {'man' if low else 'woman'} speaks, take {i // 4}.", "kind": "global"},
                    {"text": f"A {'low' if low else 'high'} voice that rises and falls, take {i}.", "kind": "fine"},
                ],
                "ratings": [{"caption": "A man speaks.", "rating": 5 if low else 1}],
            }
        )
    path = tmp_path / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_manifest_gets_every_figure_by_source(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(evaluate, SHIPPED, manifest, "--out", out)
    assert done.exit_code == 0, done.output
    report = json.loads((out / "report.json").read_text())
    assert list(report["sources"]) == ["street", "studio"]
    for figures in report["sources"].values():
        # Two clips in a row share their global caption; every fine one is its own.
        assert (figures["retrieval_global"]["clips"], figures["retrieval_global"]["captions"]) == (12, 6)
        assert figures["retrieval_fine"]["captions"] == 12
        assert set(figures["retrieval_fine"]["speech_to_text"]) == {"R@1", "R@5", "R@10", "mAP@10"}
        assert figures["gender"]["clips"] == 12
        assert -1 <= figures["similarity_style"]["r"]["value"] <= 1
        assert (
            0 <= figures["calibration_captions"]["ECE"]["low"] <= figures["calibration_captions"]["ECE"]["value"] <= 100
        )
    assert report["bundle"]["fingerprint"] == Bundle.load(SHIPPED).fingerprint()
    assert (out / "reliability-street-calibration_captions.svg").is_file() and (
        out / "ratings-studio-similarity_style.svg"
    ).is_file()


def test_clips_of_no_numbers_are_not_judged(manifest: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "3.wav", np.array([0.1, np.nan] * 8000, np.float32), 16000, subtype="FLOAT")
    done = run(evaluate, SHIPPED, manifest, "--out", tmp_path / "out")
    assert done.exit_code == INCOMPLETE and "samples that are no numbers" in done.output
    coverage = json.loads((tmp_path / "out" / "report.json").read_text())["coverage"]
    assert coverage["judged"] == 23 and "3.wav" in coverage["refused"][0]


def test_own_prompts_and_where(manifest: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("voice:\n  male: a deep voice\n  female: [a bright voice, a light voice]\n")
    options = ("--prompts", prompts, "--classify", "gender=voice", "--where", "source=street", "--json")
    done = run(evaluate, SHIPPED, manifest, *options)
    assert done.exit_code == 0, done.output
    (figures,) = json.loads(done.stdout)["sources"].values()
    assert figures["gender"]["prompts"]["female"] == ["a bright voice", "a light voice"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"voice:\n  male: [a deep voice\n  female: b\n", "prompts.yaml, line 3, column 9: not YAML: expected"),
        (b"\xff\xfe", "prompts.yaml: not YAML"),
        (b"", "write preset"),
        (b"voice: {male: a deep voice}", "at least two classes"),
    ],
)
def test_broken_prompts_are_told(manifest: Path, tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "prompts.yaml").write_bytes(text)
    done = run(evaluate, SHIPPED, manifest, "--prompts", tmp_path / "prompts.yaml")
    assert done.exit_code == 1 and isinstance(done.exception, ValueError) and told in str(done.exception)


def test_a_report_without_a_figure_is_none(manifest: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps({"path": row["path"], "gender": "male"}) + "\n" for row in rows[:3]))
    done = run(evaluate, SHIPPED, bare, "--out", tmp_path / "out")
    assert done.exit_code == 1 and "bare.jsonl: no source has what a figure needs" in str(done.exception)
    assert not (tmp_path / "out").exists()
    done = run(evaluate, SHIPPED, manifest, "--classify", "gender", "--classify", "mood=emotion", "--json")
    assert done.exit_code == 0, done.output
    (note,) = json.loads(done.stdout)["notes"]
    assert note.startswith("mood: no source has clips of two of its classes (")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "give either a manifest or --protocol"),
        (("--protocol", "ravdess"), "--root"),
        (("MANIFEST", "--root", "."), "--root"),
        (("MANIFEST", "--protocol", "ravdess", "--root", "."), "give either"),
        (("MANIFEST", "--where", "source"), "field=value"),
        (("--protocol", "iemocap", "--root", ".", "--classify", "x"), "Session1"),
    ],
)
def test_wrong_options_are_told(manifest: Path, options: tuple[str, ...], told: str) -> None:
    done = run(evaluate, SHIPPED, *(manifest if one == "MANIFEST" else one for one in options))
    assert done.exit_code in (1, 2)
    assert told in done.output + str(done.exception)


def test_wrong_folders_and_manifests_are_told(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run(evaluate, SHIPPED, "--protocol", "ravdess", "--root", tmp_path / "empty")
    assert done.exit_code == 1 and "holds no RAVDESS speech" in str(done.exception)
    done = run(evaluate, SHIPPED, manifest, "--classify", "mood")
    assert done.exit_code == 1 and "no preset 'mood'" in str(done.exception)
    for file in tmp_path.glob("*.wav"):
        file.unlink()
    done = run(evaluate, SHIPPED, manifest)
    assert done.exit_code == 1 and "none of 24 clips could be read" in str(done.exception)


def test_a_bundle_is_calibrated_in_place(manifest: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED, bundle)
    before = Bundle.load(bundle)
    done = run(calibrate, bundle, manifest)
    assert done.exit_code == 0, done.output
    after = Bundle.load(bundle)  # its hashes hold
    assert after.fingerprint() == before.fingerprint()  # vectors and collections stay good
    fitted = after.manifest.calibration
    assert fitted.mismatched_percentiles is not None and len(fitted.mismatched_percentiles) == 101
    assert fitted.pairs == 96 and fitted.expected_calibration_error is not None
    card = (bundle / CARD).read_text()
    assert card.count("## Calibration") == 1 and "| captions | " in card and " | 96 | " in card
    assert "Expected calibration error of the match probability on dev pairs" not in card
    assert card.startswith((SHIPPED / CARD).read_text()[:2000])

    # Killed after the card was written: the bundle says so, and a second run repairs it.
    (bundle / CARD).write_text(card + "half")
    with pytest.raises(BundleError, match=r"README\.md"):
        Bundle.load(bundle)
    assert run(calibrate, bundle, manifest).exit_code == 0
    Bundle.load(bundle)
    (bundle / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        load_to_amend(bundle)


def test_older_bundles_stay_readable(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED, bundle)
    told = json.loads((bundle / "bundle.json").read_text())
    told["calibration"] = {"scale": 17.0, "bias": -3.0}
    (bundle / "bundle.json").write_text(json.dumps(told))
    assert Bundle.load(bundle).manifest.calibration.mismatched_percentiles is None
    for table in ([0.0] * 100, [0.1] * 50 + [0.0] * 51, [0.0] * 100 + [7.0]):
        told["calibration"]["mismatched_percentiles"] = table
        (bundle / "bundle.json").write_text(json.dumps(told))
        with pytest.raises(BundleError, match="mismatched_percentiles"):
            Bundle.load(bundle)


def test_too_few_captions_are_no_calibration(manifest: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED, bundle)
    done = run(calibrate, bundle, manifest, "--where", "speaker=1")
    assert done.exit_code == 1 and "needs 20 captions" in str(done.exception)


def test_a_bundle_of_the_official_architecture_is_evaluated_alike(
    zipformer: Clsp, tokenizer_folder: Path, card: Card, tmp_path: Path
) -> None:
    words = tmp_path / "tokenizer.json"
    load_tokenizer(tokenizer_folder, zipformer.config.text).save(str(words))
    scope = Scope(lengths_s=(0.25, 0.5), library=20)
    bundle = tmp_path / "bundle"
    export_bundle(zipformer, words, card, bundle, precision="fp32", scope=scope, say=str)
    assert "clsp calibrate" in (bundle / CARD).read_text()  # nobody knows what its match probability is worth
    write_cremad(tmp_path / "corpus")
    done = run(evaluate, bundle, "--protocol", "crema-d", "--root", tmp_path / "corpus", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["bundle"]["fingerprint"] == Bundle.load(bundle).fingerprint()
    assert {"emotion", "gender", "age"} <= set(report["sources"]["crema-d"])
