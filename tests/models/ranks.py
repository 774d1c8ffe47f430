"""Two processes with batches of their own: what they do together against one model that does all of it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import register_fsdp_forward_method

from mllm.models.runtime import loss
from tests.launch.fsdp_cpu import enable
from tests.launch.settings import launch_environment
from tests.models.tiny import gradients

RANKS = 2
STEPS = 3
Case = tuple[Any, Sequence[dict[str, Any]], Sequence[dict[str, Any]]]
"""A model, batches to train on in turn, and prompts to answer on each rank; the same wherever it is made."""
LOGITS_AT_ONCE = loss.LOGITS_AT_ONCE


def check_ranks(folder: Path, cases: Mapping[str, Callable[[], Case]], *, shard: bool) -> dict[str, str]:
    """What went wrong in each case, "" where nothing did.

    The model is prepared by accelerate: for DDP, or with the settings of `accelerate_config/default_config.yaml`.
    """
    found: dict[str, str] = {}
    while len(found) < len(cases):
        waiting = {name: case for name, case in cases.items() if name not in found}
        store = folder / f"from_{len(found)}"
        context = torch.multiprocessing.spawn(_work, (str(store), waiting, shard), nprocs=RANKS, join=False)
        try:
            while not context.join():
                pass
        except torch.multiprocessing.ProcessExitedException as error:
            found[next(iter(waiting))] = str(error)  # unless it says why itself
        for number, name in enumerate(waiting):
            said = [path.read_text() for path in folder.glob(f"{store.name}_{number}_*")]
            if any(said) or len(said) == RANKS:
                found[name] = "\n".join(said).strip()
    return found


def _work(rank: int, store: str, cases: Mapping[str, Callable[[], Case]], shard: bool) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # asked for, not used: the group is there
    if shard:
        env = launch_environment("default_config", "--mixed_precision", "no")
        os.environ |= {name: value for name, value in env.items() if name.startswith(("FSDP", "ACCELERATE"))}
        enable()
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS, timeout=timedelta(seconds=60)
    )
    for number, make in enumerate(cases.values()):
        said = ""
        try:
            _check(rank, make, shard)
        except Exception:  # noqa: BLE001, the test that asked shows it
            said = f"rank {rank}: {traceback.format_exc()}"
        Path(f"{store}_{number}_{rank}").write_text(said)
        if said:
            os._exit(1)
        dist.barrier()
    os._exit(0)  # DDP's end joins gloo's threads while it holds the GIL, for which one of them may wait (torch 2.13)


def _check(rank: int, make: Callable[[], Case], shard: bool) -> None:
    """Gradients, their norm and the weights of some steps of two batches a rank; then answers."""
    loss.LOGITS_AT_ONCE = LOGITS_AT_ONCE
    accelerator = _accelerator()
    assert accelerator.distributed_type == (DistributedType.FSDP if shard else DistributedType.MULTI_CPU)
    model, batches, prompts = make()
    alone = make()[0].train()
    trained, trained_alone = (torch.optim.SGD(each.parameters(), lr=0.05) for each in (model, alone))
    wrapped, optimizer = accelerator.prepare(model.train(), trained)
    for step in range(STEPS):
        first = step * 2 * RANKS
        mine = [batches[(first + 2 * rank + turn) % len(batches)] for turn in range(2)]
        everyones = [batches[(first + number) % len(batches)] for number in range(2 * RANKS)]
        labels = sum(int((batch["labels"][:, 1:] >= 0).sum()) for batch in everyones)
        for batch in everyones:
            alone(**batch, num_items_in_batch=labels).loss.backward()
        with accelerator.no_sync(wrapped):
            accelerator.backward(wrapped(**mine[0], num_items_in_batch=labels).loss * RANKS)
        accelerator.backward(wrapped(**mine[1], num_items_in_batch=labels).loss * RANKS)
        expected, found = gradients(alone), gradients(model)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            whole = gradient.full_tensor() if shard else gradient
            torch.testing.assert_close(whole, expected[name], rtol=1e-3, atol=1e-5, msg=f"step {step}: {name}")
        norm: Any = accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
        norm_alone = torch.nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
        torch.testing.assert_close(norm.full_tensor() if shard else norm, norm_alone, rtol=1e-4, atol=1e-5)
        optimizer.step()
        optimizer.zero_grad()
        trained_alone.step()
        trained_alone.zero_grad()
    if shard:
        register_fsdp_forward_method(model, "generate")
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 3, "synced_gpus": True}
    answers = [each.eval().generate(**prompts[rank], **settings).tolist() for each in (model, alone)]
    assert answers[0] == answers[1]


def _accelerator() -> Accelerator:
    """As the first one of this process."""
    AcceleratorState._reset_state()
    if PartialState._shared_state:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU
    return Accelerator(cpu=True)
