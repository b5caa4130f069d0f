"""Gender from pitch and vocal-tract length where nobody labelled it: conservative, the doubtful stay unknown."""

from __future__ import annotations

from training.captions.acoustic import Measures

MIN_VOICED_S = 0.8


def estimate_gender(measures: Measures) -> str | None:
    """'male', 'female' or None. Both cues must agree: median pitch (Hz) and formant spacing (Hz).

    The thresholds leave a gap in which voices of either gender are found; very high pitch may be a child's, so it
    is left out too.
    """
    pitch, spacing = measures.f0_median_hz, measures.formant_spacing_hz
    if pitch is None or spacing is None or measures.voiced_s < MIN_VOICED_S:
        return None
    if (165 <= pitch < 290 and spacing >= 1080) or (190 <= pitch < 290 and spacing >= 1045):
        return "female"
    if (pitch <= 132 and spacing <= 1115) or (pitch <= 150 and spacing <= 1060):
        return "male"
    return None
