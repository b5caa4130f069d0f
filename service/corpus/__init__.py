"""A corpus too large for one machine: a manifest to Parquet shards of embeddings, and shards into an index."""
