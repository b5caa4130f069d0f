"""A checkpoint becomes a model bundle: graphs, tokenizer, hashes and the report that proves them."""

import os

# ONNX Runtime's wheels send figures of every process to their maker, and keep an id of the machine for it, unless this
# is there before the library is loaded. Whoever wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
