"""From recordings to a training set: sources, captions, restyled and degraded copies."""
