"""Approximate nearest neighbours in FAISS: kinds of index, and which suits what size."""
