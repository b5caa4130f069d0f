"""Training from annotated manifests of any format gives the trainer the same clips, and it trains on them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from training.captions.formats import Row, read_rows, write_rows
from training.captions.formats.training import Shares, for_training, read_clips
from training.model import ClspConfig, TextConfig, WhisperConfig, build_model
from training.model.config import HeadConfig
from training.objective.examples import TrainClip, read_examples
from training.trainer.heads.recipe import Recipe
from training.trainer.heads.train import train

NAMES = ["m.jsonl", "m_cuts.jsonl.gz", "m.parquet"]


def captioned(clips: list[Row]) -> list[Row]:
    return [
        {
            **row,
            "split": "train",
            "short_captions": [f"a {'high' if i % 2 else 'low'} voice"],
            "long_captions": [f"{'high' if i % 2 else 'low'} voice number {i}"],
        }
        for i, row in enumerate(clips)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_trains(name: str, clips: list[Row], tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    write_rows(tmp_path / name, captioned(clips))
    found = read_clips(tmp_path / name)
    assert [clip.path for clip in found] == [Path(row["path"]) for row in clips]
    assert [[c.kind for c in clip.captions] for clip in found] == [["global", "fine"]] * 12
    words = ["a", "high", "low", "voice", "number"]
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, **{w: i + 2 for i, w in enumerate(words)}}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    head = HeadConfig(kind="residual", hidden=16)
    model = ClspConfig(
        joint_dim=16,
        speech=WhisperConfig(dim=32, heads=2, feedforward_dim=32, layers=1, max_positions=200, pool_layers=(1,)),
        text=TextConfig(kind="minilm", vocab_size=len(words) + 2, hidden_size=16, num_hidden_layers=1,
                        num_attention_heads=2, intermediate_size=16, max_position_embeddings=32, pad_token_id=0),
        speech_head=head,
        text_head=head,
    )  # fmt: skip
    recipe = Recipe.model_validate(
        {"name": "t", "version": "0", "licence": "x", "model": model.model_dump(), "start": {"tokenizer": "-"},
         "train": {"steps": 3, "batch": 8, "warmup": 1, "captions": 2}}
    )  # fmt: skip
    torch.manual_seed(0)
    start = build_model(recipe.model)
    before = {k: v.clone() for k, v in start.state_dict().items()}
    after = train(start, recipe, found, tokenizer, tmp_path / "cache", say=lambda text: None)
    assert any(not torch.equal(before[k], v) for k, v in after.state_dict().items())


def resolved(clips: list[TrainClip]) -> list[TrainClip]:
    return [replace(clip, path=clip.path.resolve()) for clip in clips]


def test_what_annotate_writes_is_read_by_the_trainer_as_it_is(clips: list[Row], tmp_path: Path) -> None:
    rows = for_training(captioned(clips), "m")
    write_rows(tmp_path / "m.jsonl", rows)
    assert resolved(read_examples(tmp_path / "m.jsonl")) == resolved(read_clips(tmp_path / "m.jsonl"))


def test_texts_may_hold_other_ends_of_lines_than_the_manifests(clips: list[Row], tmp_path: Path) -> None:
    text = "First\u2028calm,\u0085then loud."
    write_rows(tmp_path / "m.jsonl", for_training([{**row, "short_captions": [text]} for row in clips], "m"))
    path = tmp_path / "m.jsonl"
    path.write_text(path.read_text("utf-8"), "utf-8-sig")  # as an editor on Windows saves it
    for read in (read_examples, read_clips):
        assert [[caption.text for caption in clip.captions] for clip in read(path)] == [[text]] * len(clips)


def test_stretches_become_files(clips: list[Row], tmp_path: Path) -> None:
    rows = [{**row, "start_s": 0.1, "duration_s": 0.2} for row in captioned(clips[:3])]
    write_rows(tmp_path / "m_cuts.jsonl", rows)
    found = read_clips(tmp_path / "m_cuts.jsonl")
    import soundfile

    assert [soundfile.info(clip.path).frames for clip in found] == [3200] * 3
    again = read_clips(tmp_path / "m_cuts.jsonl")
    assert [clip.path for clip in again] == [clip.path for clip in found]


def test_a_channel_that_was_laid_over_is_no_channel_of_the_file(clips: list[Row], tmp_path: Path) -> None:
    laid = {"noise": {"snr_db": 12.0}}
    rows = [{**row, "channel": laid} for row in captioned(clips[:2])]
    for name in ("m.jsonl", "m_cuts.jsonl"):
        write_rows(tmp_path / name, rows)
        assert [row["channel"] for row in read_rows(tmp_path / name)] == [laid] * 2
        assert [clip.path.resolve() for clip in read_clips(tmp_path / name)] == [
            Path(row["path"]).resolve() for row in rows
        ]


def test_speakers_are_never_split_and_shares_are_kept(tmp_path: Path) -> None:
    rows = [{"id": f"{s}-{i}", "path": "/a.wav", "speaker": f"s{s}"} for s in range(2000) for i in range(2)]
    shares = Shares(dev=0.1, test=0.2)
    made = list(for_training(rows, "x", shares))
    by_speaker: dict[str, set[str]] = {}
    for row in made:
        by_speaker.setdefault(row["speaker"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_speaker.values())
    told = [splits.copy().pop() for splits in by_speaker.values()]
    assert told.count("test") / 2000 == pytest.approx(0.2, abs=0.03)
    assert told.count("dev") / 2000 == pytest.approx(0.1, abs=0.03)
    kept = next(for_training([{**rows[0], "split": "dev"}], "x", shares))
    assert kept["split"] == "dev"
    # A corpus may be held out whole; nobody to train on by mistake is refused.
    assert {row["split"] for row in for_training(rows, "x", Shares(dev=0, test=1))} == {"test"}
    for dev, test in ((0.9, 0.9), (0.5, 0.5), (-0.1, 0.1), (0.1, float("nan"))):
        with pytest.raises(ValueError, match="less than 1"):
            Shares(dev, test)


def test_convert_keeps_everything(clips: list[Row], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from training.commands.annotate import app

    write_rows(tmp_path / "m.jsonl", captioned(clips))
    for source, out in (("m.jsonl", "n_cuts.jsonl"), ("n_cuts.jsonl", "o.jsonl")):
        result = CliRunner().invoke(app, ["captions", "convert", str(tmp_path / source), str(tmp_path / out)])
        assert result.exit_code == 0, result.output
    first, last = list(read_rows(tmp_path / "m.jsonl")), list(read_rows(tmp_path / "o.jsonl"))
    assert [row["long_captions"] for row in last] == [row["long_captions"] for row in first]
    assert [row["path"] for row in last] == [row["path"] for row in first]
    assert resolved(read_examples(tmp_path / "o.jsonl")) == resolved(read_clips(tmp_path / "m.jsonl"))
