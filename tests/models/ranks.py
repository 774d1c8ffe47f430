"""Two processes, one batch each: what they do together against one model that does both."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from tests.models.tiny import gradients

RANKS = 2
Case = tuple[Any, Sequence[dict[str, Any]], Sequence[dict[str, Any]]]
"""A model, and for each rank a batch to train on and prompts to answer; the same wherever it is made."""


def check_ranks(folder: Path, make: Callable[[], Case], *, shard: bool, checkpointing: bool = True) -> None:
    """Gradients of a step, and answers, with the model replicated or sharded."""
    torch.multiprocessing.spawn(_work, args=(str(folder / "store"), make, shard, checkpointing), nprocs=RANKS)


def _work(rank: int, store: str, make: Callable[[], Case], shard: bool, checkpointing: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    model, batches, prompts = make()
    alone = make()[0].train()
    for batch in batches:
        (alone(**batch).loss / RANKS).backward()
    expected = gradients(alone)
    if checkpointing:
        model.activation_checkpointing_enable()
    model.train()
    wrapped = _sharded(model) if shard else DistributedDataParallel(model)  # waits for every trainable parameter
    for _ in range(2):
        wrapped.zero_grad()
        wrapped(**batches[rank]).loss.backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        whole = gradient.full_tensor() if shard else gradient
        torch.testing.assert_close(whole, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    model.eval()
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 3, "synced_gpus": True}
    answers = [each.eval().generate(**prompts[rank], **settings).tolist() for each in (model, alone)]
    assert answers[0] == answers[1]
    dist.barrier()
    os._exit(0)  # DDP's end joins gloo's threads while it holds the GIL, for which one of them may wait (torch 2.13)


def _sharded(model: Any) -> Any:
    for module in reversed(list(model.modules())):
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module)
    fully_shard(model)
    register_fsdp_forward_method(model, "generate")
    return model
