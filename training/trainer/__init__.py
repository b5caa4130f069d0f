"""Training: end to end from audio, or heads on cached features of frozen towers."""
