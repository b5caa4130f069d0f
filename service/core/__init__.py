"""Small parts that every room may use: problems, setting types, signals, logging."""
