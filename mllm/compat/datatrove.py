"""datatrove: tasks run one at a time by us, and options of slurm for one stage."""

from __future__ import annotations

from typing import Any

from mllm.compat.names import member


def run_task(executor: object, rank: int) -> None:
    """Run one task of an executor's pipeline, with its log and its mark of completion."""
    member(executor, "_run_for_rank")(rank)


def add_sbatch_defaults(executor: Any, defaults: dict[str, str]) -> None:
    """Give a slurm executor options of `sbatch` that it has not got yet."""
    executor._sbatch_args = {**defaults, **member(executor, "_sbatch_args")}
