"""bitsandbytes: layers that stay savable, and states of optimizers without a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from mllm.compat.names import member

PARAMS_4BIT = "Params4bit"
"""Class of weights in four bits."""


def keep_layout(model: nn.Module) -> None:
    """Have layers in few bits keep the layout of their weights.

    Some CPUs would repack them at the first evaluation, which loses precision at the next saving. Layers without the
    switch never do so.
    """
    modules: Iterable[Any] = model.modules()
    for module in modules:
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False


def makes_states(optimizer: object) -> bool:
    """Whether it is one of bitsandbytes', whose step needs storage, but whose states do not."""
    return hasattr(optimizer, "init_state")


def make_states(optimizer: Any, shards: Sequence[Tensor], in_32_bits: Sequence[bool]) -> None:
    """Make the states of an optimizer of one group, without a step, for parameters that may lie on `meta`."""
    member(optimizer, "is_paged")
    optimizer.is_paged = False
    overrides = member(member(optimizer, "mng"), "index2config")  # of all optimizers of the process
    for number, (shard, whole) in enumerate(zip(shards, in_32_bits, strict=True)):
        before = overrides.pop((0, number), None)
        try:
            if whole:
                overrides[0, number] = {"optim_bits": 32}
            optimizer.init_state(optimizer.param_groups[0], shard, 0, number)
        finally:
            overrides.pop((0, number), None)
            if before is not None:
                overrides[0, number] = before
