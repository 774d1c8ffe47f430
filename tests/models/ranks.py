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
from accelerate.utils import DeepSpeedPlugin, DistributedType, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mllm.models.runtime import loss
from tests.launch.deepspeed_cpu import shard_small_weights, stage_in_use
from tests.launch.fsdp_cpu import enable
from tests.launch.settings import launch_environment
from tests.models.tiny import gradients

RANKS = 2
STEPS = 3
Case = tuple[Any, Sequence[dict[str, Any]], Sequence[dict[str, Any]]]
"""A model, batches to train on in turn, and prompts to answer on each rank; the same wherever it is made."""
LOGITS_AT_ONCE = loss.LOGITS_AT_ONCE
LAUNCHES = {"ddp": "ddp", "fsdp2": "default_config", "zero2": "deepspeed_zero2", "zero3": "deepspeed_zero3"}
"""Ways to divide the work, and the file of accelerate_config/ that has the settings."""
TYPES = {"ddp": DistributedType.MULTI_CPU, "fsdp2": DistributedType.FSDP}
MOST = 1.0
"""Norm that the gradients of a step are clipped to."""


def check_ranks(folder: Path, cases: Mapping[str, Callable[[], Case]], *, way: str) -> dict[str, str]:
    """What went wrong in each case, "" where nothing did.

    The model is prepared by accelerate, with the settings of the file of accelerate_config/ for this way.
    """
    found: dict[str, str] = {}
    while len(found) < len(cases):
        waiting = {name: case for name, case in cases.items() if name not in found}
        store = folder / f"from_{len(found)}"
        context = torch.multiprocessing.spawn(_work, (str(store), waiting, way), nprocs=RANKS, join=False)
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


def _work(rank: int, store: str, cases: Mapping[str, Callable[[], Case]], way: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}  # asked for, not used: the group is there
    env = launch_environment(LAUNCHES[way], "--mixed_precision", "no")
    os.environ |= {name: value for name, value in env.items() if name.startswith(("FSDP", "ACCELERATE"))}
    if way == "fsdp2":
        enable()
    if way.startswith("zero"):
        os.environ["DS_ACCELERATOR"] = "cpu"
        shard_small_weights()
        os.environ.pop("ACCELERATE_USE_CPU", None)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS, timeout=timedelta(seconds=60)
    )
    for number, make in enumerate(cases.values()):
        said = ""
        try:
            _check(rank, make, way)
        except Exception:  # noqa: BLE001, the test that asked shows it
            said = f"rank {rank}: {traceback.format_exc()}"
        Path(f"{store}_{number}_{rank}").write_text(said)
        if said:
            os._exit(1)
        dist.barrier()
    os._exit(0)  # DDP's end joins gloo's threads while it holds the GIL, for which one of them may wait (torch 2.13)


def _check(rank: int, make: Callable[[], Case], way: str) -> None:
    """Gradients, their norm and the weights of some steps of two batches a rank; then answers."""
    loss.LOGITS_AT_ONCE = LOGITS_AT_ONCE
    unset_hf_deepspeed_config()
    model, batches, prompts = make()
    alone = make()[0].train()
    accelerator = _accelerator(way)
    assert accelerator.distributed_type == TYPES.get(way, DistributedType.DEEPSPEED)
    trained, trained_alone = (torch.optim.SGD(each.parameters(), lr=0.05) for each in (model, alone))
    wrapped, optimizer = accelerator.prepare(model.train(), trained)
    step_of = _step
    if way.startswith("zero"):
        step_of = _deepspeed_step
        assert stage_in_use(wrapped) == int(way[-1])
    for step in range(STEPS):
        first = step * 2 * RANKS
        mine = [batches[(first + 2 * rank + turn) % len(batches)] for turn in range(2)]
        everyones = [batches[(first + number) % len(batches)] for number in range(2 * RANKS)]
        labels = sum(int((batch["labels"][:, 1:] >= 0).sum()) for batch in everyones)
        for batch in everyones:
            alone(**batch, num_items_in_batch=labels).loss.backward()
        expected = gradients(alone)
        norm_alone = nn.utils.clip_grad_norm_(alone.parameters(), MOST)
        found, norm = step_of(accelerator, wrapped, optimizer, mine, labels)
        assert found.keys() >= expected.keys()
        for name, gradient in found.items():
            there = expected.get(name, torch.zeros_like(gradient))
            torch.testing.assert_close(gradient, there, rtol=1e-3, atol=1e-5, msg=f"step {step}: {name}")
        torch.testing.assert_close(norm, norm_alone, rtol=1e-4, atol=1e-5)
        trained_alone.step()
        trained_alone.zero_grad()
    if way == "fsdp2":
        register_fsdp_forward_method(model, "generate")
    settings = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 3, "synced_gpus": True}
    answers = [each.eval().generate(**prompts[rank], **settings).tolist() for each in (model, alone)]
    assert answers[0] == answers[1]
    if way.startswith("zero"):
        wrapped.destroy()


def _step(
    accelerator: Accelerator, wrapped: Any, optimizer: Any, batches: Sequence[dict[str, Any]], labels: int
) -> tuple[dict[str, Tensor], Tensor]:
    """One step on two batches: the gradients of all ranks before they are clipped, and their norm."""
    with accelerator.no_sync(wrapped):
        accelerator.backward(wrapped(**batches[0], num_items_in_batch=labels).loss * RANKS)
    accelerator.backward(wrapped(**batches[1], num_items_in_batch=labels).loss * RANKS)
    found = {name: whole(gradient) for name, gradient in gradients(accelerator.unwrap_model(wrapped)).items()}
    norm = whole(accelerator.clip_grad_norm_(wrapped.parameters(), MOST))
    optimizer.step()
    optimizer.zero_grad()
    return found, norm


def whole(tensor: Any) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _deepspeed_step(
    accelerator: Accelerator, engine: Any, optimizer: Any, batches: Sequence[dict[str, Any]], labels: int
) -> tuple[dict[str, Tensor], Tensor]:
    """As `_step`, as transformers' Trainer makes one: the last backward pass also updates.

    Gradients that no batch gives are 0.
    """
    from deepspeed.utils import safe_get_full_grad  # pyright: ignore[reportMissingImports]

    found: dict[str, Tensor] = {}
    update = engine.step

    def look_and_update() -> None:
        for name, parameter in engine.module.named_parameters():
            if parameter.requires_grad:
                found[name] = safe_get_full_grad(parameter).clone()
        update()

    engine.step = look_and_update
    for batch, last in zip(batches, (False, True), strict=True):
        accelerator.gradient_state._set_sync_gradients(last)
        accelerator.backward(engine(**batch, num_items_in_batch=labels).loss * RANKS, scale_wrt_gas=False)
    engine.step = update
    norm = accelerator.clip_grad_norm_(engine.parameters(), MOST)
    return found, torch.as_tensor(norm, dtype=torch.float32)


def _accelerator(way: str) -> Accelerator:
    """As the first one of this process."""
    AcceleratorState._reset_state()
    if way.startswith("zero"):
        plugin = DeepSpeedPlugin(gradient_accumulation_steps=2, gradient_clipping=MOST)
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1
        return Accelerator(deepspeed_plugin=plugin, kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")])
    if PartialState._shared_state:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU
    return Accelerator(cpu=True)
