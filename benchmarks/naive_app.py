"""The baseline that most people write first: FastAPI around the PyTorch text encoder, one request after the other.

It serves MiniLM-L6, which is clsp-small's text tower without the projection: a little less work for each text.
Run it with uvicorn: `uvicorn naive_app:app`. CLSP_NAIVE_MODEL is the folder of the encoder.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModel, AutoTokenizer

MODEL = os.environ["CLSP_NAIVE_MODEL"]
tokenizer = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)
encoder = AutoModel.from_pretrained(MODEL, local_files_only=True).eval()
app = FastAPI()


class Request(BaseModel):
    """OpenAI's shape."""

    input: str | list[str]
    model: str = "default"


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    """Whether it is up."""
    return {"status": "ok"}


@app.post("/v1/embeddings")
def embed(request: Request) -> dict[str, Any]:
    """Embed; FastAPI runs this in one of its threads."""
    texts = [request.input] if isinstance(request.input, str) else request.input
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    return {"object": "list", "data": [{"index": i, "embedding": v} for i, v in enumerate(vectors.tolist())]}
