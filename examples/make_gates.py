"""Regenerates `examples/gates/`: six TTS voices with their style instructions, in three takes of twelve lines each.

Not needed to run the example: its output is there. Set up and run it as `make_library.py` says:

    python examples/make_gates.py --voices package/voices

`baseline` and `good` are two takes of the same voices: every line is spoken anew, a little faster or slower, higher or
lower, louder or softer, as a TTS system with a new seed would. In `drifted` one voice has lost its depth and one its
speed; the other four are those of `good`. Files that are there are kept. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from library_styles import BREAD, DOOR, GARDEN, GOAL, KEYS, LIGHT, METER, RAIN, RIVER, SHOP, STARS, TRAIN, Part
from make_library import RATE, SEED, Speaker, render

LINES = (RAIN, BREAD, LIGHT, DOOR, RIVER, STARS, KEYS, GARDEN, TRAIN, SHOP, METER, GOAL)


@dataclass(frozen=True)
class Voice:
    """A voice of the imagined TTS system: how it is told to sound, and how it does."""

    name: str
    caption: str
    part: Part
    drift: Part | None = None
    """How it sounds after the change that should fail; None where nothing changed."""


VOICES = (
    Voice(
        "anna",
        "A woman speaks at a normal pace in a clear voice.",
        Part("af_heart", ""),
    ),
    Voice(
        "ben",
        "A man speaks in a deep, low-pitched voice.",
        Part("am_fenrir", "", pitch=0.66),
        drift=Part("am_fenrir", "", pitch=1.05),
    ),
    Voice(
        "cora",
        "A woman talks fast, at a brisk pace.",
        Part("af_nova", "", speed=1.5),
        drift=Part("af_nova", "", speed=0.85),
    ),
    Voice("dan", "A man speaks very slowly.", Part("am_onyx", "", speed=0.62)),
    Voice("eve", "A woman whispers.", Part("bf_lily", "", phonation="whispered", peak=0.3, language="en-gb")),
    Voice("fred", "A man speaks in a lively, animated voice.", Part("am_puck", "", pitch_range=2.0)),
)


def take(part: Part, line: str, rng: np.random.Generator) -> Part:
    """One reading of a line: no two are quite alike."""
    return replace(
        part,
        text=line,
        speed=part.speed * float(np.exp(rng.normal(0, 0.03))),
        pitch=part.pitch * float(2 ** (rng.normal(0, 0.35) / 12)),
        peak=part.peak * float(10 ** (rng.normal(0, 1.0) / 20)),
    )


def write(speaker: Speaker, part: Part, path: Path, rng: np.random.Generator) -> None:
    """Speak a part into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = render(speaker, part, rng)
    soundfile.write(path, wave.astype(np.float32), RATE, format="OGG", subtype="OPUS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", type=Path, required=True, help="folder of Kokoro's *.bin voices")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "gates")
    args = parser.parse_args()
    speaker = Speaker(args.voices)
    sets: dict[str, list[dict[str, str]]] = {"baseline": [], "good": [], "drifted": []}
    for number, voice in enumerate(VOICES):
        for place, line in enumerate(LINES, 1):
            id = f"{voice.name}-{place}"
            for name, rows in sets.items():
                rng = np.random.default_rng([SEED, number, place, sorted(sets).index(name)])
                part = voice.part if name != "drifted" else voice.drift
                folder = name if part is not None else "good"
                path = args.out / name / f"{id}.ogg"
                if part is not None and not path.exists():
                    write(speaker, take(part, line, rng), path, rng)
                row = {"id": id, "group": voice.name, "caption": voice.caption, "audio": f"{folder}/{id}.ogg"}
                rows.append(row)
            print(id)
    for name, rows in sets.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (args.out / f"{name}.jsonl").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
