"""Prompt presets and reference captions that a bundle ships unless its checkpoint brings its own."""

# Classes that clips with that label taught: "excited" drew happy clips to itself, and nobody had labelled any.
EMOTIONS = ("happy", "angry", "sad", "neutral", "calm", "disgust", "fear", "surprised")

# The authors' prompts (arXiv 2601.03065).
PRESETS: dict[str, dict[str, list[str]]] = {
    "emotion": {emotion: [f"A speaker in a {emotion} tone."] for emotion in EMOTIONS},
    "gender": {"male": ["A male speaker."], "female": ["A female speaker."]},
    "age": {
        "child": ["A child or young teenager speaker."],
        "adult": ["An adult speaker."],
        "middle-aged": ["A middle-aged speaker."],
        "older": ["An older or elder speaker."],
    },
}

_VOICES = ("A man", "A woman", "An older man", "An older woman", "A young man", "A young woman", "A speaker")
_MANNERS = (
    "speaks slowly in a low, calm voice",
    "talks very fast in a bright, high voice",
    "whispers softly, with a lot of breath",
    "speaks loudly and forcefully",
    "sounds sad and tired, trailing off",
    "sounds cheerful and lively, with wide pitch swings",
    "speaks in a flat, monotonous tone at an even pace",
    "sounds angry and tense, stressing many words",
    "speaks with a creaky, rough voice",
    "reads clearly and neutrally at a moderate pace",
    "starts calmly and becomes louder and faster",
    "sounds nervous and hesitant, with pauses",
)

REFERENCE_CAPTIONS: list[str] = [f"{voice} {manner}." for voice in _VOICES for manner in _MANNERS]
