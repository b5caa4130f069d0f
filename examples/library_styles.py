"""What the example library contains: one row a clip, each caption true because of how the clip is made.

`make_library.py` turns these rows into audio and refuses to write a clip whose measured pitch, rate or voicing
contradicts its caption.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """One stretch of speech in one style. Factors of 1 and 0 dB leave the synthesised voice as it is."""

    voice: str
    text: str
    caption: str = ""
    """Style of this stretch alone; only for clips whose style changes."""
    speed: float = 1.0
    pitch: float = 1.0
    """Factor on F0."""
    pitch_range: float = 1.0
    """Factor on the distance of log F0 from its median: 0 is monotone, 2 is lively."""
    phonation: str = "modal"
    """modal, whispered (noise excitation), breathy or creaky."""
    peak: float = 0.6
    tilt: float = 0.0
    """dB an octave above 500 Hz: soft voices fall off, loud ones ring."""
    pause_s: float = 0.0
    """Silence put in at each sentence end."""
    language: str = "en-us"
    """espeak's name of the language of `text`."""


@dataclass(frozen=True)
class Style:
    """One clip: its free-text caption, its parts in order, and what is certain about it."""

    id: str
    caption: str
    parts: tuple[Part, ...]
    metadata: dict[str, object] = field(default_factory=dict)
    extension: str = "ogg"


def clip(id: str, caption: str, part: Part, *, extension: str = "ogg", **metadata: object) -> Style:
    """A clip in one style throughout."""
    return Style(id, caption, (part,), dict(metadata), extension)


SOFT = {"peak": 0.07, "tilt": -5.0}
LOUD = {"peak": 0.97, "tilt": 4.0}
GB = {"language": "en-gb"}
F_US = {"gender": "female", "accent": "american", "language": "en"}
M_US = {"gender": "male", "accent": "american", "language": "en"}
F_GB = {"gender": "female", "accent": "british", "language": "en"}
M_GB = {"gender": "male", "accent": "british", "language": "en"}
F = {"gender": "female"}
M = {"gender": "male"}

TRAIN = "The last train leaves the harbour at a quarter past nine."
RAIN = "Rain is moving in from the west, and it should reach us before the evening."
BREAD = "Leave the dough under a cloth for two hours. Then fold it once and shape the loaf."
LIGHT = "There was a small light at the far end of the corridor, and nobody knew who had left it there."
DOOR = "Please close the door behind you and take a seat by the window."
RIVER = "We followed the river north until the road disappeared under the snow."
SHOP = "Everything on the second floor is half price until Saturday, so come in and look around."
STARS = "On a clear night you can count more than two thousand stars without a telescope."
KEYS = "I put the keys on the kitchen table, next to the blue envelope."
GARDEN = "In spring the garden fills with bees, and the old wall turns warm in the afternoon sun."
GOAL = "He takes it past one, past two, he shoots, and it is in the back of the net!"
METER = "Your reading for the month of May is four thousand one hundred and twelve."

STYLES: tuple[Style, ...] = (
    # Ordinary voices, for everything else to stand out from.
    clip(
        "woman-us-plain",
        "An American woman speaks at a normal pace in a clear, neutral voice.",
        Part("af_heart", TRAIN),
        rate="normal",
        phonation="modal",
        **F_US,
    ),
    clip(
        "woman-us-plain-2",
        "An American woman reads a sentence aloud at an ordinary speed.",
        Part("af_sarah", RIVER),
        rate="normal",
        phonation="modal",
        **F_US,
    ),
    clip(
        "man-us-plain",
        "An American man speaks at a normal pace in a clear, neutral voice.",
        Part("am_michael", RAIN),
        rate="normal",
        phonation="modal",
        **M_US,
    ),
    clip(
        "man-us-plain-2",
        "A man with an American accent speaks evenly at a medium speed.",
        Part("am_eric", KEYS, speed=0.92),
        rate="normal",
        phonation="modal",
        extension="flac",
        **M_US,
    ),
    clip(
        "woman-gb-plain",
        "A British woman speaks at a normal pace in a clear voice.",
        Part("bf_emma", GARDEN, **GB),
        rate="normal",
        phonation="modal",
        **F_GB,
    ),
    clip(
        "man-gb-plain",
        "A British man speaks at a normal pace in a clear voice.",
        Part("bm_george", STARS, **GB),
        rate="normal",
        phonation="modal",
        **M_GB,
    ),
    clip(
        "woman-gb-plain-2",
        "A woman with an English accent reads aloud, neither fast nor slow.",
        Part("bf_isabella", LIGHT, speed=0.92, **GB),
        rate="normal",
        phonation="modal",
        **F_GB,
    ),
    clip(
        "man-gb-plain-2",
        "A man with an English accent reads aloud, neither fast nor slow.",
        Part("bm_lewis", RIVER, **GB),
        rate="normal",
        phonation="modal",
        extension="mp3",
        **M_GB,
    ),
    # Rate.
    clip(
        "woman-us-very-slow",
        "A woman speaks very slowly, with long pauses between the sentences.",
        Part("af_bella", "Take your time. There is no hurry.", speed=0.58, pause_s=0.7),
        rate="very slow",
        **F_US,
    ),
    clip(
        "man-us-very-slow",
        "A man speaks very slowly, drawing out every word.",
        Part("am_onyx", "The road is long, and the night is quiet.", speed=0.56),
        rate="very slow",
        **M_US,
    ),
    clip(
        "woman-gb-slow",
        "A British woman speaks slowly and calmly.",
        Part("bf_alice", DOOR, speed=0.62, **GB),
        rate="slow",
        **F_GB,
    ),
    clip(
        "man-gb-slow",
        "A British man tells something at a slow, measured pace.",
        Part("bm_daniel", "Once, long ago, a miller lived beside this stream.", speed=0.68, **GB),
        rate="slow",
        extension="flac",
        **M_GB,
    ),
    clip(
        "woman-us-fast",
        "A woman talks fast, hardly pausing for breath.",
        Part("af_nova", SHOP + " " + TRAIN, speed=1.5),
        rate="fast",
        **F_US,
    ),
    clip(
        "man-us-fast",
        "A man talks fast, as if reading the small print of an advert.",
        Part(
            "am_liam",
            "Terms and conditions apply. See the store for details, and ask about delivery and returns.",
            speed=1.5,
        ),
        rate="fast",
        **M_US,
    ),
    clip(
        "woman-us-very-fast",
        "A woman rattles off her words extremely fast.",
        Part("af_jessica", GARDEN + " " + RIVER, speed=1.9),
        rate="very fast",
        **F_US,
    ),
    clip(
        "man-gb-very-fast",
        "A British man rattles off his words extremely fast.",
        Part("bm_fable", LIGHT + " " + KEYS, speed=1.9, **GB),
        rate="very fast",
        **M_GB,
    ),
    # Pitch.
    clip(
        "woman-us-high",
        "A woman with a very high-pitched voice.",
        Part("af_sky", METER, pitch=1.7),
        pitch="high",
        **F_US,
    ),
    clip(
        "woman-us-low",
        "A woman with an unusually deep, low-pitched voice.",
        Part("af_kore", RAIN, pitch=0.76),
        pitch="low",
        **F_US,
    ),
    clip("man-us-high", "A man with a high-pitched voice.", Part("am_puck", DOOR, pitch=1.7), pitch="high", **M_US),
    clip(
        "man-us-low",
        "A man with a very deep, low-pitched bass voice.",
        Part("am_fenrir", STARS, pitch=0.6),
        pitch="low",
        **M_US,
    ),
    clip(
        "man-gb-low",
        "A British man speaks in a deep, low voice.",
        Part("bm_george", DOOR, pitch=0.66, **GB),
        pitch="low",
        extension="mp3",
        **M_GB,
    ),
    # Expressiveness: the range of F0.
    clip(
        "woman-us-monotone",
        "A woman speaks in a flat, monotone voice, like a machine.",
        Part("af_alloy", METER, pitch_range=0.0),
        expressiveness="monotone",
        **F_US,
    ),
    clip(
        "man-us-monotone",
        "A man speaks in a flat, monotone voice without any melody.",
        Part("am_echo", SHOP, pitch_range=0.0),
        expressiveness="monotone",
        **M_US,
    ),
    clip(
        "woman-us-lively",
        "A woman speaks in a very lively voice, her pitch swinging up and down.",
        Part("af_aoede", SHOP, pitch_range=2.2, speed=1.1),
        expressiveness="lively",
        **F_US,
    ),
    clip(
        "man-us-lively",
        "A man speaks in a very animated voice with large swings of pitch.",
        Part("am_puck", GOAL, pitch_range=2.2, speed=1.1),
        expressiveness="lively",
        **M_US,
    ),
    # Phonation.
    clip(
        "woman-us-whisper",
        "A woman whispers.",
        Part("af_nicole", LIGHT, phonation="whispered", peak=0.3),
        phonation="whispered",
        **F_US,
    ),
    clip(
        "woman-gb-whisper",
        "A British woman whispers, without any voiced sound.",
        Part("bf_lily", DOOR, phonation="whispered", peak=0.3, **GB),
        phonation="whispered",
        extension="flac",
        **F_GB,
    ),
    clip(
        "man-us-whisper",
        "A man whispers quietly.",
        Part("am_adam", KEYS, phonation="whispered", peak=0.3),
        phonation="whispered",
        **M_US,
    ),
    clip(
        "woman-us-breathy",
        "A woman speaks in a soft, breathy, airy voice.",
        Part("af_heart", GARDEN, phonation="breathy", speed=0.9, peak=0.35, tilt=-2.0),
        phonation="breathy",
        **F_US,
    ),
    clip(
        "man-gb-breathy",
        "A British man speaks in a breathy, airy voice.",
        Part("bm_lewis", RAIN, phonation="breathy", peak=0.4, tilt=-2.0, **GB),
        phonation="breathy",
        **M_GB,
    ),
    clip(
        "man-us-creaky",
        "A man speaks in a low, creaky, rough voice.",
        Part("am_onyx", TRAIN, phonation="creaky", speed=0.9),
        phonation="creaky",
        **M_US,
    ),
    clip(
        "woman-us-creaky",
        "A woman speaks with a creaky voice, full of vocal fry.",
        Part("af_river", GARDEN, phonation="creaky", speed=0.9),
        phonation="creaky",
        extension="mp3",
        **F_US,
    ),
    # Loudness, with the spectral tilt that goes with it.
    clip(
        "woman-us-soft",
        "A woman speaks very softly and quietly, with a muffled tone.",
        Part("af_sarah", DOOR, **SOFT),
        loudness="soft",
        **F_US,
    ),
    clip(
        "man-us-soft",
        "A man speaks very quietly and gently.",
        Part("am_michael", "It is late now. Sleep well, and do not worry about tomorrow.", speed=0.85, **SOFT),
        loudness="soft",
        **M_US,
    ),
    clip(
        "woman-us-loud",
        "A woman speaks loudly, in a bright, ringing voice.",
        Part("af_bella", SHOP, pitch=1.15, **LOUD),
        loudness="loud",
        **F_US,
    ),
    clip(
        "man-us-loud",
        "A man announces something loudly, in a hard, penetrating voice.",
        Part("am_fenrir", GOAL, pitch=1.2, **LOUD),
        loudness="loud",
        **M_US,
    ),
    # Other languages, each with its own text.
    clip(
        "woman-fr",
        "A woman speaks French.",
        Part("ff_siwis", "Le marché ouvre à huit heures, juste derrière la vieille église.", language="fr-fr"),
        language="fr",
        **F,
    ),
    clip(
        "man-es",
        "A man speaks Spanish.",
        Part("em_alex", "Mañana por la mañana saldremos hacia la montaña con dos amigos.", language="es"),
        language="es",
        **M,
    ),
    clip(
        "woman-it",
        "A woman speaks Italian.",
        Part("if_sara", "Il treno per Bologna parte dal binario quattro tra dieci minuti.", language="it"),
        language="it",
        **F,
    ),
    # The style changes on the way: what best segments are for.
    Style(
        "woman-slow-then-fast",
        "A woman speaks very slowly at first and then very fast.",
        (
            Part(
                "af_heart",
                "Let me think about it for a moment. I am not sure. It was a grey morning, and the house "
                "was still asleep.",
                "A woman speaks very slowly.",
                speed=0.58,
                pause_s=0.6,
            ),
            Part(
                "af_heart",
                "Oh, now I remember, it was on the shelf behind the second door on the left, under the red "
                "box with the letters, next to the lamp that never worked! I must have put it there on Sunday, right "
                "before the guests arrived, and then the telephone rang, and somebody was at the door, and the soup "
                "boiled over, and of course nobody thought of it again until you asked me about it a minute ago!",
                "A woman speaks very fast.",
                speed=1.8,
            ),
        ),
        {**F_US, "rate": ["very slow", "very fast"]},
    ),
    Style(
        "man-whisper-then-loud",
        "A man whispers, and then suddenly speaks loudly.",
        (
            Part(
                "am_adam",
                "Do not make a sound. They are right behind that wall and are listening to every word. "
                "Stay low, keep to the left, and wait for me at the gate. If the lamp goes out, count to ten.",
                "A man whispers.",
                phonation="whispered",
                peak=0.25,
                speed=0.85,
            ),
            Part(
                "am_adam",
                "Run! Everybody out, this way, down the stairs and across the yard! "
                "Leave your things, do not look back, and do not stop until you reach the road on the other side!",
                "A man speaks loudly.",
                pitch=1.2,
                speed=1.0,
                **LOUD,
            ),
        ),
        {**M_US, "phonation": ["whispered", "modal"], "loudness": ["soft", "loud"]},
    ),
    Style(
        "dialogue-woman-man",
        "A British woman speaks first, then a man with a deep voice answers slowly.",
        (
            Part(
                "bf_emma",
                "Good morning, and thank you for calling. The office is open again from Monday, and all the "
                "appointments that were cancelled last week have been moved to the week after. Is there anything else?",
                "A British woman speaks at a normal pace.",
                **GB,
            ),
            Part(
                "bm_daniel",
                "No, thank you. I only wanted to hear a friendly voice. The house has been quiet, "
                "and the days are short at this time of the year.",
                "A British man speaks slowly in a deep, low voice.",
                speed=0.7,
                pitch=0.75,
                **GB,
            ),
        ),
        {"gender": ["female", "male"], "accent": "british", "language": "en"},
    ),
)
