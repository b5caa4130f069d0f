"""Judging captions by an audio model, and the statistics that say how far its judgements can be trusted."""
