"""The attributes of a voice that captions name: which words claim them, and how each sounds put into a sentence.

Several wordings a value, so that no single word decides, in the register of speaking-style captions.
"""

from __future__ import annotations

from service.style.family import Family, Value

_NOT_PITCH = "volume|loudness|energy|quality|mood|spirits?|tension|intensity|speed|tempo|pace|rate"


def _pitch_words(level: str) -> tuple[str, ...]:
    # "low" alone may be about volume or mood; beside one of these nouns it is about pitch.
    other = rf"(?![- ](?:{_NOT_PITCH}))"
    return (
        rf"{level}(?:er)?[- ]pitch(?:ed)?",
        rf"{level}(?:er)?{other}(?:,? [\w-]+){{0,2}} (?:voice|pitch|register|tone)",
        rf"(?:voice|pitch|register|tone) (?:is|stays|sits) (?:\w+ )?{level}(?:er)?",
        rf"{level}(?:er)?(?=,|\.|$| and )",
    )


def _volume_words(level: str) -> tuple[str, ...]:
    return rf"{level}(?:er)?[- ]volume", rf"volume(?:: ?| is | stays | )(?:\w+ )?{level}(?:er)?"


FAMILIES: tuple[Family, ...] = (
    Family(
        "gender",
        (
            Value("female", (r"fem(?:ale|inine)", r"wom[ae]n(?:'s)?", r"girl", r"lady", r"mother"), ("is a woman",)),
            Value("male", (r"male", r"masculine", r"m[ae]n(?:'s)?", r"boy", r"guy", r"gentleman"), ("is a man",)),
        ),
    ),
    Family(
        "age",
        (
            Value(
                "child",
                (r"child(?:ren|like)?", r"kid", r"boy", r"girl", r"teen(?:ager|age)?"),
                ("is a child", "sounds like a child"),
            ),
            Value("young", (r"young(?:er)?", r"youthful"), ("is a young adult", "sounds young")),
            Value("middle-aged", (r"middle[- ]aged", r"mature"), ("is middle-aged", "sounds middle-aged")),
            Value(
                "older",
                (r"old(?:er)?", r"elderly", r"aged", r"senior", r"grand(?:mother|father|ma|pa)"),
                ("is an older person", "sounds old"),
            ),
        ),
    ),
    Family(
        "pitch",
        (
            Value(
                "low",
                (r"deep(?:er)?", r"bass(?:-heavy)?", r"baritone", r"rumbling", *_pitch_words("low")),
                ("speaks in a low, deep voice", "has a low pitch", "speaks with a deep, low-pitched voice"),
            ),
            Value(
                "high",
                (r"shrill", r"squeaky", r"soprano", r"falsetto", r"piercing", *_pitch_words("high")),
                ("speaks in a high voice", "has a high pitch", "speaks with a high-pitched voice"),
            ),
        ),
        elsewhere=_NOT_PITCH,
    ),
    Family(
        "rate",
        (
            Value(
                "slow",
                (
                    r"slow(?:ly|er|-paced)?",
                    r"unhurried(?:ly)?",
                    r"leisurely",
                    r"measured",
                    r"drawl(?:s|ing)?",
                    r"drawn[- ]out",
                    r"drawing out",
                    r"dragging",
                ),
                ("speaks slowly", "speaks at a slow pace", "speaks very slowly, in an unhurried manner"),
            ),
            Value(
                "normal",
                (r"(?:normal|moderate|medium|ordinary|average|even|steady) (?:pace|speed|tempo|rate)",),
                ("speaks at a moderate pace", "speaks at a normal speed"),
            ),
            Value(
                "fast",
                (
                    r"fast(?:er|-paced)?",
                    r"quick(?:ly|er)?",
                    r"rapid(?:ly|-fire)?",
                    r"brisk(?:ly)?",
                    r"hurried(?:ly)?",
                    r"rushed",
                    r"swift(?:ly)?",
                    r"rattl(?:es|ing) off",
                ),
                ("speaks fast", "speaks at a fast pace", "speaks very quickly, in a rush"),
            ),
        ),
    ),
    Family(
        "melody",
        (
            Value(
                "monotone",
                (r"monoton(?:e|ous|ously)", r"flat(?:ly)?", r"droning", r"toneless", r"deadpan", r"without any melody"),
                ("speaks in a monotone", "has flat intonation", "speaks with a flat, monotonous delivery"),
            ),
            Value(
                "lively",
                (
                    r"livel(?:y|ier)",
                    r"animated(?:ly)?",
                    r"expressive(?:ly)?",
                    r"sing-song",
                    r"theatrical(?:ly)?",
                    r"dramatic(?:ally)?",
                    r"melodic(?:ally)?",
                    r"pitch swing(?:s|ing)",
                    r"swings of pitch",
                ),
                ("speaks expressively", "has lively intonation", "speaks with an animated, varied melody"),
            ),
        ),
    ),
    Family(
        "loudness",
        (
            Value(
                "soft",
                (
                    r"soft(?:ly|er)?",
                    r"quiet(?:ly|er)?",
                    r"hushed",
                    r"gentl[ey]",
                    r"faint(?:ly)?",
                    r"soft-spoken",
                    *_volume_words("low"),
                ),
                ("speaks softly", "has a soft, quiet voice", "speaks quietly and gently"),
            ),
            Value(
                "loud",
                (
                    r"loud(?:ly|er)?",
                    r"shout(?:s|ing|ed)?",
                    r"yell(?:s|ing)?",
                    r"scream(?:s|ing)?",
                    r"forceful(?:ly)?",
                    r"booming",
                    r"powerful(?:ly)?",
                    r"strident",
                    r"raised voice",
                    *_volume_words("high"),
                ),
                ("speaks loudly", "has a loud, strong voice", "speaks loudly and forcefully"),
            ),
        ),
    ),
    Family(
        "phonation",
        (
            Value(
                "whispering",
                (r"whisper(?:s|ing|ed|y)?", r"under (?:his|her|their|the) breath"),
                ("whispers", "speaks in a whisper", "speaks in a whispering voice"),
            ),
            Value(
                "breathy",
                (r"breath(?:y|ily|iness)", r"air(?:y|ily)", r"lot of breath", r"husky"),
                ("speaks in a breathy voice", "has an airy, breathy tone"),
            ),
            Value(
                "creaky",
                (
                    r"creak(?:y|s|ing)",
                    r"croak(?:y|s|ing)",
                    r"vocal fry",
                    r"gravelly",
                    r"rasp(?:y|ing)",
                    r"rough",
                    r"hoarse(?:ly)?",
                ),
                ("speaks in a creaky voice", "has a rough, gravelly voice", "speaks with vocal fry"),
            ),
            Value(
                "clear",
                (r"clear(?:ly)?", r"clean", r"smooth(?:ly)?", r"resonant", r"ringing"),
                ("speaks in a clear voice", "has a smooth, clear tone"),
            ),
        ),
    ),
    Family(
        "timbre",
        (
            Value(
                "dark",
                (r"dark", r"warm(?:ly)?", r"muffled", r"rounded", r"mellow"),
                ("has a dark, warm timbre", "speaks with a warm, rounded colour"),
            ),
            Value(
                "bright",
                (r"bright(?:ly)?", r"crisp(?:ly)?", r"brassy", r"thin", r"tinny"),
                ("has a bright timbre", "speaks with a crisp, bright colour"),
            ),
        ),
    ),
    Family(
        "pauses",
        (
            Value(
                "many",
                (
                    r"(?:long|frequent|many|noticeable) (?:pauses|breaks)",
                    r"with pauses",
                    r"halting(?:ly)?",
                    r"hesitant(?:ly)?",
                    r"hesitat(?:es|ing)",
                ),
                ("speaks with long pauses", "speaks haltingly, pausing between phrases"),
            ),
            Value(
                "few",
                (
                    r"hardly pausing",
                    r"without (?:a pause|pauses|pausing)",
                    r"fluent(?:ly)?",
                    r"flowing",
                    r"continuous(?:ly)?",
                ),
                ("speaks fluently", "speaks in one continuous flow, without pauses"),
            ),
        ),
    ),
    Family(
        "emotion",
        (
            Value(
                "happy",
                (r"happ(?:y|ily)", r"cheerful(?:ly)?", r"joy(?:ful|fully|ous)?", r"amused", r"delighted", r"laughing"),
                ("sounds happy", "speaks in a happy tone"),
            ),
            Value(
                "excited",
                (r"excited(?:ly)?", r"enthusiastic(?:ally)?", r"thrilled", r"eager(?:ly)?"),
                ("sounds excited", "speaks in an excited tone"),
            ),
            Value(
                "angry",
                (r"ang(?:ry|rily|er)", r"furious(?:ly)?", r"irritated", r"annoyed", r"enraged"),
                ("sounds angry", "speaks in an angry tone"),
            ),
            Value(
                "sad",
                (r"sad(?:ly)?", r"sorrowful(?:ly)?", r"mournful(?:ly)?", r"melanchol(?:y|ic)", r"tearful(?:ly)?"),
                ("sounds sad", "speaks in a sad tone"),
            ),
            Value(
                "calm",
                (r"calm(?:ly|er)?", r"relaxed", r"serene(?:ly)?", r"soothing(?:ly)?", r"composed"),
                ("sounds calm", "speaks in a calm tone"),
            ),
            Value(
                "afraid",
                (
                    r"afraid",
                    r"fear(?:ful|fully)?",
                    r"scared",
                    r"frightened",
                    r"terrified",
                    r"nervous(?:ly)?",
                    r"anxious",
                ),
                ("sounds afraid", "speaks in a fearful tone"),
            ),
            Value(
                "surprised",
                (r"surprised", r"astonished", r"amazed"),
                ("sounds surprised", "speaks in a surprised tone"),
            ),
            Value(
                "disgusted", (r"disgust(?:ed)?", r"contemptuous"), ("sounds disgusted", "speaks in a tone of disgust")
            ),
            Value(
                "neutral",
                (r"neutral(?:ly)?", r"matter-of-fact", r"unemotional"),
                ("sounds neutral", "speaks in a neutral tone"),
            ),
        ),
    ),
)

BY_NAME: dict[str, Family] = {family.name: family for family in FAMILIES}
