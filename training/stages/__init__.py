"""The paper's two stages, end to end from audio: tuned towers, batches by duration, several processes, exact resume."""
