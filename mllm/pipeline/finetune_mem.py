"""`finetune.py` with less memory, on NVIDIA GPUs: samples in packed rows, read by flex attention.

accelerate launch mllm/pipeline/finetune_mem.py CONFIG [flags]

No row is padded and no mask of all pairs of tokens is made; loss and gradients are those of `finetune.py`. Needs no
package beside PyTorch. A config that says packing="none" keeps padded rows; these need FlashAttention-2.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from mllm.boundary import reported
from mllm.config.command_line import parse
from mllm.config.config import load
from mllm.errors import ConfigError
from mllm.pipeline.finetune import leave

OLDEST = (8, 0)
"""Compute capability of the first GPUs with bfloat16 (Ampere), which both attentions are written for."""
INSTEAD = "run mllm/pipeline/finetune.py instead"


def main(argv: list[str] | None = None) -> int:
    """As finetune.main."""
    return reported(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> None:
    cfg, args = load(parse(argv))
    check_hardware()
    choose_attention(cfg)
    from mllm.pipeline.run import run_pipeline  # as in finetune

    run_pipeline(cfg, args)


def check_hardware() -> None:
    """
    Raises:
        ConfigError: flex attention cannot be compiled for what is here; says what is missing.
    """
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(INSTEAD, where="finetune_mem", expected="an NVIDIA GPU for flex attention", found="none")
    found = torch.cuda.get_device_capability()
    if found < OLDEST:
        raise ConfigError(
            INSTEAD,
            where="finetune_mem",
            expected=f"a GPU of compute capability {OLDEST[0]}.{OLDEST[1]} or above for flex attention",
            found=f"{found[0]}.{found[1]}",
        )
    if importlib.util.find_spec("triton") is None:
        raise ConfigError(f"finetune_mem needs triton, which PyTorch compiles with: pip install triton, or {INSTEAD}")


def choose_attention(cfg: Any) -> None:
    """Pack the rows unless the config says how they are laid out, and set the attention that goes with that.

    Raises:
        ConfigError: the config wants padded rows, and the package for them is missing.
    """
    from transformers.utils import is_flash_attn_2_available

    from mllm.models.runtime.packed_attention import FLEX

    layout = cfg["data_args"].setdefault("collator_kwargs", {})
    if layout.setdefault("packing", "rows") != "none":
        cfg["model_args"]["attn_implementation"] = FLEX
    elif is_flash_attn_2_available():
        cfg["model_args"]["attn_implementation"] = "flash_attention_2"
    else:
        raise ConfigError(
            f"remove it or set it to 'rows' or 'shared', pip install flash-attn for padded rows, or {INSTEAD}",
            where="finetune_mem",
            field="data_args.collator_kwargs.packing",
            expected="'rows' or 'shared' without the package flash-attn",
            found="'none'",
        )


if __name__ == "__main__":
    leave(main())
