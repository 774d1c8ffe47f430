"""Data before they are trained on: `mllm data show`, `check` and `dedup`."""
