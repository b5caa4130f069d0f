"""Does the text side understand what people type? Phrases that were never trained on, to the claims that they mean.

python -m training.evaluation.phrases CHECKPOINT_OR_BUNDLE
"""

import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.model.checkpoint import load_checkpoint
from training.trainer.heads.features import load_plain_tokenizer, text_features
from training.yaml_file import read_yaml

Vectors = NDArray[np.float32]
FILE = Path(__file__).with_name("phrases.yaml")


@cache
def phrases() -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """Claim -> the sentence that stands for it, and phrase -> the claims that it may mean."""
    table = read_yaml(FILE)
    return dict(table["claims"]), {str(k): frozenset(str(v).split("|")) for k, v in table["phrases"].items()}


def phrase_accuracy(embed: Callable[[Sequence[str]], Vectors]) -> dict[str, Any]:
    """Share of phrases (%) whose nearest claim is one of theirs; `embed` gives texts -> [N, D] unit vectors."""
    claims, asked = phrases()
    names = list(claims)
    cosines = embed(list(asked)) @ embed(list(claims.values())).T
    nearest = [names[int(column)] for column in cosines.argmax(1)]
    wrong = {p: said for (p, right), said in zip(asked.items(), nearest, strict=True) if said not in right}
    return {"phrases": len(asked), "accuracy": round(100 * (1 - len(wrong) / len(asked)), 1), "wrong": wrong}


def main(folder: str) -> None:
    """Print the accuracy of a checkpoint's text side, and what it got wrong."""
    model, tokenizer_path, _ = load_checkpoint(Path(folder))
    tokenizer = load_plain_tokenizer(tokenizer_path)

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> Vectors:
        vectors: Vectors = model.project_text(text_features(model, tokenizer, texts)).numpy()
        return vectors

    print(json.dumps(phrase_accuracy(embed), indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
