"""Collections in a folder: SQLite is the truth, FAISS a cache of it."""
