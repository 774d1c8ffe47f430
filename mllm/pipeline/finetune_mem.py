"""`finetune.py` with flash attention, which needs less memory: for GPUs that have it.

accelerate launch mllm/pipeline/finetune_mem.py CONFIG [flags]
"""

from __future__ import annotations

import sys

import torch
from transformers.utils import is_flash_attn_2_available

from mllm.config.config import load
from mllm.errors import ConfigError, reported
from mllm.pipeline.finetune import run

OLDEST = (8, 0)
"""Compute capability of the first GPUs that FlashAttention-2 supports (Ampere)."""


def main(argv: list[str] | None = None) -> int:
    """As finetune.main."""
    return reported(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> None:
    cfg, args = load(argv)
    check_hardware()
    cfg["model_args"]["attn_implementation"] = "flash_attention_2"
    run(cfg, args)


def check_hardware() -> None:
    """
    Raises:
        ConfigError: flash attention cannot run here; says what is missing.
    """
    instead = "run mllm/pipeline/finetune.py instead, which uses PyTorch's own attention"
    if not torch.cuda.is_available():
        raise ConfigError(f"finetune_mem needs an NVIDIA GPU for flash attention, and none is visible; {instead}")
    found = torch.cuda.get_device_capability()
    if found < OLDEST:
        raise ConfigError(
            f"finetune_mem needs a GPU of compute capability {OLDEST[0]}.{OLDEST[1]} for flash attention, "
            f"this one has {found[0]}.{found[1]}; {instead}"
        )
    if not is_flash_attn_2_available():
        raise ConfigError(f"finetune_mem needs the package flash-attn; pip install flash-attn, or {instead}")


if __name__ == "__main__":
    sys.exit(main())
