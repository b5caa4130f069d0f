"""Captions of speaking style, written from what is measured in a clip or known of it."""
