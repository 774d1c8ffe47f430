"""DeepSpeed with the settings that models of real size have: ZeRO-3 leaves small weights whole on every rank, and those
of the models here are all small.
"""

from __future__ import annotations

from typing import Any

from accelerate.utils import DeepSpeedPlugin


def shard_small_weights() -> None:
    """Have every DeepSpeedPlugin of this process divide weights of any size."""
    original = DeepSpeedPlugin.__post_init__

    def post_init(self: Any) -> None:
        original(self)
        self.deepspeed_config["zero_optimization"]["stage3_param_persistence_threshold"] = 0

    DeepSpeedPlugin.__post_init__ = post_init  # type: ignore[method-assign]


def stage_in_use(engine: Any) -> int:
    """The stage of ZeRO, by what this rank holds: of the weights a part (3), or of their gradients (2)."""
    sharded = {hasattr(parameter, "ds_tensor") for parameter in engine.module.parameters()}
    assert len(sharded) == 1
    if sharded == {True}:
        assert not any(parameter.ds_persist for parameter in engine.module.parameters())
        return 3
    return 2 if engine.optimizer.partition_gradients else 1
