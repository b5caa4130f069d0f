"""Vectors in and out: Parquet shards and bulk loads."""
