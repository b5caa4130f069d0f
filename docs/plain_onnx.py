"""A bundle in plain ONNX Runtime: python docs/plain_onnx.py BUNDLE clip-16kHz-mono.wav 'a caption' ['another']."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import soundfile
from tokenizers import Tokenizer

folder, file, *captions = sys.argv[1:]
samples, rate = soundfile.read(file, dtype="float32")
assert rate == 16000 and samples.ndim == 1, "16 kHz mono, please"
options = ort.SessionOptions()
options.add_session_config_entry("session.x64quantprecision", "1")  # without it, CPUs without VNNI cut sums off
options.add_session_config_entry("session.disable_quant_qdq", "1")  # with the first alone, weights in int8 don't run
half = json.loads(Path(folder, "bundle.json").read_text())["precision"] == "fp16"
off = ["NchwcTransformer"] if half else None  # crashes on float16 convolutions
graphs = (f"{folder}/speech.onnx", f"{folder}/text.onnx")
speech, text = (ort.InferenceSession(graph, options, disabled_optimizers=off) for graph in graphs)
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.no_padding()  # some files ask for it, and the mask below hides none
clip = speech.run(None, {"waveform": samples[None], "lengths": np.array([len(samples)])})[0][0]
for caption in captions:
    ids = np.array([tokenizer.encode(caption).ids])
    words = text.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]
    print(f"{clip @ words:.4f}  {caption}")
