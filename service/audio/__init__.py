"""From bytes to samples: containers, decoding, limits, and where the bytes come from."""
