"""What is learned: examples, which texts are true of which clips, losses."""
