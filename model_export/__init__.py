"""A checkpoint becomes a model bundle: graphs, tokenizer, hashes and the report that proves them."""
