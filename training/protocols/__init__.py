"""Published test sets in the folders that their owners distribute, with the paper's prompts: one command each."""

from training.protocols.corpus import Corpus, Protocol, ProtocolError
from training.protocols.cremad import CREMAD
from training.protocols.iemocap import IEMOCAP
from training.protocols.ravdess import RAVDESS

PROTOCOLS: dict[str, Protocol] = {one.name: one for one in (RAVDESS, CREMAD, IEMOCAP)}

__all__ = ["PROTOCOLS", "Corpus", "Protocol", "ProtocolError"]
