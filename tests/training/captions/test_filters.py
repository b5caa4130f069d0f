"""Each rule catches what breaks it and names it; good captions pass; the report says how many fell to which."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from training.captions import lexicon, writer
from training.captions.filter_report import Report
from training.captions.filters import RULES, Said, check, faults, tidy
from training.captions.formats import Row, read_rows, write_rows
from training.commands.annotate import app

LONG = (128, 768)
FINE = (
    "A middle-aged woman with a warm, slightly breathy voice and a British accent speaks at a measured pace. At first "
    "her tone is calm and even, then she grows livelier, raising pitch and loudness with clear emphasis; towards the "
    "end the pace slows and her voice softens, as though closing a letter."
)
# What an audio model might say that is good, with words that look like broken rules but are none.
GOOD = [
    FINE,
    "A man's low, resonant voice moves at a steady tempo with a sing-song melody, a monotone stretch in the middle and "
    "a nonchalant ending; the speaker's vowels are long, his consonants crisp, and the loudness rises notably.",
    "The speaker, an older man, talks with a notable northern accent; his pitch is static pitch-wise for a while, "
    "then climbs in small steps, and the final syllables are drawn out with a hoarse, creaky quality that lingers.",
    "A woman’s voice, the speaker’s vowels long and the singers’ lilt in them, moves from a murmur to a bright, "
    "ringing tone; it’s lively and quick, then ends on a drawn-out ’til-the-morning kind of sigh that sinks in pitch.",
    "She starts in a whisper, the breath clearly audible, then moves into a full voice with rising pitch; the delivery "
    "is bright, quick and joyful, its emphasis falling on the last word of every phrase, and it ends on a soft laugh.",
]
BROKEN = {
    "empty": ["", "  ", "..."],
    "refusal": [
        "I'm sorry, but I can't listen to audio files.",
        "I am unable to process audio content at this time, please describe it to me in text form and I will help.",
        "As an AI, I hear a woman with a low voice.",
        "Unfortunately the clip could not be opened.",
        "I’m sorry, but I can’t assist with that.",
        "I canʼt hear the clip you uploaded.",
        "I apologize, but the clip was empty for me.",
        "I must apologise: the clip holds silence.",
    ],
    "truncated": [FINE[:150], FINE[:-20] + ","],
    "script": ["一位中年女性以温暖的声音说话。" + FINE, FINE + " Голос мягкий."],
    "preamble": [
        "Sure! " + FINE,
        "Here is the caption: " + FINE,
        "Here’s a caption: " + FINE,
        "Caption: " + FINE,
        "<think>hm</think> " + FINE,
    ],
    "one_line": [FINE + "\nShe then stops.", "- " + FINE, "**Voice** " + FINE, "1. " + FINE],
    "repetition": [
        "She speaks in a calm and even tone " * 5,
        "The voice is low and warm throughout. It moves. The voice is low and warm throughout. It goes on again.",
    ],
    "quotation": [
        FINE.replace("calm", '"calm"'),
        FINE.replace("calm", "“calm down”"),
        "He says 'come here' in a firm tone and a low pitch with rising loudness towards the end of it, then again, "
        "slower and softer.",
    ],
    "content": [
        FINE.replace("then she grows", "talking about her garden she grows"),
        FINE.replace("then she grows", "saying that it is late she grows"),
        FINE.replace("then she grows", "discussing the weather she grows"),
    ],
    "one_speaker": [
        FINE.replace("A middle-aged woman", "One of two speakers, a woman"),
        FINE + " Another voice answers her.",
        FINE.replace("with a warm", "in a conversation between friends, with a warm"),
        FINE + " Several people reply.",
    ],
    "background": [
        FINE + " There is soft music behind her.",
        FINE + " The recording is clear.",
        FINE + " Some noise can be heard.",
        FINE.replace("breathy voice", "breathy voice in a quiet room"),
        FINE + " The audio quality is high.",
        FINE + " A faint echo follows.",
    ],
    "absence": [
        FINE + " There is no sign of anger.",
        FINE + " She never raises her voice.",
        FINE.replace("calm and even", "even, without emotion"),
        FINE.replace("calm and even", "lacking emotion"),
        FINE + " She doesn't hurry.",
        FINE.replace("calm and even", "devoid of warmth"),
        FINE.replace("calm and even", "calm rather than angry"),
        FINE + " The speaker doesn’t rush.",
        FINE + " Her pace isn`t quick.",
        FINE + " There is nothing harsh in it.",
        FINE + " She cannot be hurried.",
        FINE + " The pitch goes nowhere.",
        FINE + " Nobody would call it harsh.",
        FINE + " She seldom raises her voice.",
        FINE.replace("calm and even", "calm, with scant inflection"),
        FINE.replace("calm and even", "calm, unlike a shout"),
    ],
    "guess": [
        FINE.replace("A middle-aged woman", "Probably a teacher, a woman"),
        FINE.replace("with a warm", "who might be a news reader with a warm"),
        FINE + " Perhaps she is tired.",
        FINE + " It’s hard to say how old she is.",
        FINE.replace("as though closing a letter", "as if she were reading from a script"),
    ],
    "length": ["A calm woman.", FINE + " " + GOOD[1] + " " + GOOD[2] + " " + GOOD[3]],
}


@pytest.mark.parametrize("text", GOOD)
def test_good_captions_pass(text: str) -> None:
    assert faults(Said(text, LONG)) == []


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in BROKEN.items() for text in texts])
def test_a_broken_caption_is_caught_and_named(rule: str, text: str) -> None:
    fault = check(Said(text, LONG))
    assert fault is not None
    assert fault.rule == rule, fault
    assert fault.detail


def test_every_rule_has_captions_that_break_it() -> None:
    assert set(BROKEN) == set(RULES)


def test_what_only_the_request_knows() -> None:
    assert check(Said(FINE, LONG, finish="length")).rule == "truncated"  # type: ignore[union-attr]
    assert check(Said("No.", LONG, refused=True)).rule == "refusal"  # type: ignore[union-attr]
    spoken = Said(
        FINE + " It ends on the old house by the sea.", LONG, transcript="We sold the old house by the river."
    )
    assert check(spoken).detail == "the old house by"  # type: ignore[union-attr]
    assert check(Said(FINE, LONG, transcript="A warm voice, she said.")) is None
    said = Said(FINE + " It ends on she’ll be home by.", LONG, transcript="She'll be home by six.")
    assert check(said).detail == "she'll be home by"  # type: ignore[union-attr]


def test_the_writers_own_captions_pass() -> None:
    """Captions from measures are held to the same rules: none of their words may break one."""
    rng = random.Random(0)
    values = {a: list(v) for a, v in lexicon.attribute_words().items()}
    seen = 0
    for number in range(150):
        attributes = {a: rng.choice(v) for a, v in values.items() if rng.random() < 0.7}
        emotion, gender = rng.choice([None, *lexicon.emotion_words()]), rng.choice(["male", "female", None])
        change = {a: rng.choice(list(d)) for a, d in lexicon.change_words().items() if rng.random() < 0.3}
        facts = writer.Facts(attributes, gender=gender, emotion=emotion, accent="British", change=change)
        for caption in writer.write(facts, seed=str(number)):
            if caption.kind in ("global", "fine"):
                assert check(Said(caption.text, (8, 768))) is None, caption.text
                seen += 1
    assert seen > 400


@given(st.text(max_size=300), st.sampled_from([None, "some words that were spoken here"]))
def test_rules_take_any_text(text: str, transcript: str | None) -> None:
    found = faults(Said(text, LONG, transcript=transcript))
    assert all(fault.rule in RULES for fault in found)
    assert check(Said(text, LONG, transcript=transcript)) == (found[0] if found else None)
    assert tidy(tidy(text)) == tidy(text)


def test_harmless_wrapping_is_mended() -> None:
    assert tidy('  "A calm  woman."\n') == "A calm woman."
    assert tidy('"Calm," she said, "very."') == '"Calm," she said, "very."'


def test_a_manifest_made_for_the_trainer_is_filtered_and_counted_too(clips: list[Row], tmp_path: Path) -> None:
    told = [
        {"text": "A calm, low voice.", "kind": "global", "claims": {"pitch": "low"}},
        {"text": '"A warm and even voice."', "kind": "global", "claims": {}},
        {"text": "I can't listen to audio.", "kind": "global", "claims": {}},
        {"text": FINE, "kind": "fine", "claims": {}},
        {"text": "A calm, low voice.", "kind": "fine", "claims": {}},
        {"text": "A male voice, not a female one.", "kind": "prompt", "claims": {}},
    ]
    write_rows(tmp_path / "in.jsonl", [{**clips[0], "captions": told}])
    command = ["captions", "filter", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "1 clips, 3 captions kept" in result.output
    (row,) = read_rows(tmp_path / "out.jsonl")
    texts = [caption["text"] for caption in row["captions"]]
    assert texts == ["A calm, low voice.", "A warm and even voice.", FINE, "A male voice, not a female one."]
    assert row["captions"][0] == told[0]
    assert [(c["kind"], c["rule"]) for c in row["rejected"]] == [("short", "refusal"), ("long", "length")]
    counted = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    assert counted["kept"] == {"short": 2, "long": 1}
    assert counted["dropped"] == {"length": {"long": 1}, "refusal": {"short": 1}}
    # Captions that stand in both places are one.
    row |= {"short_captions": ["A calm, low voice.", "A warm and even voice."], "long_captions": [FINE]}
    assert Report.of([row]).to_json() == counted


def rows_to_report(count: int) -> list[dict[str, object]]:
    rules = list(RULES)
    return [
        {
            "id": f"c{i}",
            "short_captions": [f"A voice {i}."] if i % 3 else [],
            "long_captions": [f"A long text {i}."],
            "rejected": [{"kind": "long", "text": f"bad {i}", "rule": rules[i % 5], "detail": "d", "seed": 0}],
            "failed": [{"kind": "short", "seed": 1, "reason": "HTTP 400"}] if i % 10 == 0 else [],
        }
        for i in range(count)
    ]


def test_the_report_does_not_depend_on_the_order_of_rows() -> None:
    rows = rows_to_report(90)
    whole = Report.of(rows)
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    assert Report.of(shuffled).to_json() == whole.to_json()
    told = whole.to_json()
    assert told["kept"] == {"short": 60, "long": 90}
    assert told["clips_without"] == {"short": 30}
    assert told["dropped"]["refusal"] == {"long": 18}
    assert told["failed"] == {"HTTP 400": 9}
    assert all(len(samples) <= 5 for samples in told["samples"].values())
    text = whole.to_markdown()
    assert "| refusal | 0 | 18 | 7.5 % |" in text
    assert json.dumps(told)
