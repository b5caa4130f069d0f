"""Style gates: a set of clips with captions is judged, held against thresholds and a baseline, and reported on."""
