"""The words by which the filters know a broken caption, each pattern with what it must leave alone."""

from __future__ import annotations

import re

from training.captions.lexicon import NEGATION


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{p})" for p in patterns), re.IGNORECASE)


# Models write an apostrophe in many ways; the patterns below know the typewriter's.
APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʻ′´`＇", "'"))

# Openings and turns of a model that declines.
REFUSAL = _any(
    r"^(?:i'?m|i am) (?:sorry|afraid|unable|not able)",
    r"^(?:sorry|(?:my )?apologies|unfortunately)\b|\bi (?:\w+ ){0,2}apologi[sz]e\b",
    r"\bi (?:can ?not|can't|am unable|'m unable|am not able|won't) (?:\w+ ){0,3}"
    r"(?:help|assist|hear|listen|process|describe|provide|determine|access|analy[sz]e)",
    r"\bas an ai\b|\bas a language model\b",
    r"\b(?:provide|upload|share) (?:the|an|your) audio\b",
)

# A caption that speaks of itself, of the task or of the file.
PREAMBLE = _any(
    r"^(?:sure|certainly|of course|okay|ok|absolutely)\b[,!.:]",
    r"^here(?:'s| is| are)\b[^.]{0,40}\b(?:caption|description|summary)\b",
    r"^(?:caption|description|answer|output|style|voice)\s*:",
    r"^(?:the|this) (?:caption|description)\b",
    r"<think>|</think>|<\|",
)

MARKDOWN = re.compile(r"\*\*|^\s*(?:[-*•#>]|\d+[.)])\s|```|__", re.MULTILINE)

# More voices than the one that is described.
SPEAKERS = _any(
    r"\b(?:two|three|four|several|multiple|many|both|other|various|different) (?:\w+ )?"
    r"(?:speakers|voices|people|men|women|persons|individuals|talkers|participants)\b",
    r"\b(?:another|second|third|other|first) (?:\w+ )?(?:speaker|voice|person|man|woman|individual|talker)\b",
    r"\bconversation (?:between|among)\b|\bdialogue\b|\binterlocutor|\binterviewer and\b|\b(?:their|the) voices\b",
    r"\bspeakers\b|\bcrowd\b|\baudience\b|\bchorus\b",
)

# Spoken words given back, in quotation marks or by report. An apostrophe inside or at the end of a word is none.
QUOTES = re.compile(r"[\"“”„«»「」『』‹›]|(?<!\w)['‘][^'‘’]{2,}['’](?!\w)")
CONTENT = _any(
    r"\b(?:says?|saying|said|states?|stating|stated|mentions?|mentioning|utters?|uttering|exclaims?|exclaiming|"
    r"announces?|announcing) that\b",
    r"\b(?:talks?|talking|speaks?|speaking|asks?|asking|tells?|telling|inquir\w+|complain\w*|reminisc\w+) about\b",
    r"\b(?:discuss(?:es|ing)?|recounts?|recounting|narrates?|narrating|recites?|reciting|explains?|explaining) "
    r"(?:the|a|an|how|why|what|that|his|her|their)\b",
    r"\bthe (?:word|phrase|sentence|line|question) (?:is|was)\b",
    r"\bon the (?:word|words|phrase)\b|\bthe topic\b|\bsubject matter\b",
)

# Whatever is heard besides the voice, and the state of the recording.
BACKGROUND = _any(
    r"\bbackground\b|\bambien(?:t|ce)\b|\benvironment\w*\b|\bsurroundings\b",
    r"\b(?:noise|noises|noisy|noiseless|hiss|hum|buzz|echo|echoes|echoing|echoey|reverb\w*|clicks?|crackl\w*|distort\w*)\b",
    r"\bstatic\b(?! (?:pitch|tone|delivery|intonation|pace))",
    r"\bmusic\b|\binstrumental\b|(?<!sing[- ])\bsong\b|\bapplause\b|\btraffic\b|\bbirds?\b|\bfootsteps\b",
    r"\b(?:microphone|mic|studio|recording|recorded|audio|telephone line|phone line)\b",
    r"\b(?:bandwidth|fidelity|sound quality)\b",
    r"\b(?:room|hall|outdoors?|indoors?|street|cathedral)\b(?! for)",
)

# What is not there. `lexicon.NEGATION` holds the plain words.
ABSENCE = _any(
    NEGATION.pattern,
    r"\bdevoid of\b|\bfree (?:of|from)\b|\bminus\b|\bzero\b|\brather than\b|\binstead of\b",
    r"\bunlike\b|\bseldom\b|\bscant\b",
    r"\b(?:little|minimal|scarcely|barely any|few if any)\b"
    r"(?= (?:to|trace|sign|hint|emotion|inflection|variation|expression))",
)

# Guesses that nobody can hear.
GUESS = _any(
    r"\b(?:perhaps|maybe|possibly|probably|presumably|conceivably|supposedly|apparently)\b",
    r"\b(?:might|could|may|must) (?:be|have|indicate|suggest|come|belong)\b",
    r"\bi (?:think|believe|guess|suppose|assume)\b|\bunclear\b|\bunknown\b",
    r"\b(?:it is|it's) (?:hard|difficult|impossible) to\b",
    r"\bas (?:if|though) (?:he|she|they|the speaker|from|on|in)\b|\blikely (?:a|an|the|in|from|to)\b",
)

# Letters that no English caption needs.
FOREIGN = re.compile(
    r"[\u0370-\u03ff\u0400-\u04ff\u0590-\u06ff\u0900-\u0dff\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)
