"""Evaluation of any pair of towers: what is read, paired, measured, tabled and drawn."""
