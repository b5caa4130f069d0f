"""What the service does, without HTTP: embed, search, classify, score, add items."""
