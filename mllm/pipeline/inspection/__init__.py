"""Data before it is paid for: `mllm data show`, `check` and `dedup`. Nothing here reads the weights of a model."""
