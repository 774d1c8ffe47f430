"""Data before they are trained on: `mllm data show`, `check` and `dedup`. No weights are read."""
