"""A new calibration for a bundle that is there already."""

import re

from model_export.amend import amend
from model_export.bundle import Bundle, Calibration
from model_export.model_card import calibration_section


def recalibrate(bundle: Bundle, fitted: Calibration) -> Bundle:
    """Write a calibration into a bundle on disk, and its error into the card. Raises OSError where it can't."""

    def rewritten(card: str) -> str:
        kept = re.sub(
            r"\n*(## Calibration\n.*?(?=\n## |\Z)|Expected calibration error of[^\n]*\n?)", "\n", card, flags=re.S
        )
        return kept.rstrip("\n") + "\n" + "\n".join(calibration_section(fitted)) + "\n"

    return amend(bundle, rewritten, calibration=fitted)
