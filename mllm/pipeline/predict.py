"""Evaluation: every item of a test set exactly once, however many processes share the work.

Processes take turns in dataset order; answers are gathered in that order, joined to their items by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.pipeline.encoded import Encoded, ItemDataset, to_device
from mllm.types import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How an evaluation reads its data."""

    collator: Collator
    batch_size: int
    num_workers: int = 0


def shares(count: int, batch_size: int, ranks: int, rank: int) -> list[tuple[list[int], bool]]:
    """The batches of one rank: (indices, whether they count).

    Every rank gets the same number of batches, as sharded models need; one with nothing left repeats item 0 and does
    not count it.
    """
    plan: list[tuple[list[int], bool]] = []
    for start in range(0, count, batch_size * ranks):
        first = start + rank * batch_size
        indices = list(range(first, min(first + batch_size, count)))
        plan.append((indices or [0], bool(indices)))
    return plan


def predict(
    model: Any,
    items: ItemDataset,
    processor: Processor,
    loader: Loader,
    accelerator: Accelerator,
    *,
    generation: Mapping[str, Any],
    description: str,
) -> Iterator[Prediction]:
    """Generate and read back the answer of every item, in dataset order; on every rank the same predictions.

    `generation` goes to transformers' `generate`.
    """
    plan = shares(len(items), loader.batch_size, accelerator.num_processes, accelerator.process_index)
    encoded = Encoded(items, processor, training=False, answer=False)
    arguments = {**stopping(processor), **_in_step(accelerator), **generation}
    done = 0
    with tqdm(total=len(items), desc=description, disable=not accelerator.is_main_process, unit="item") as bar:
        for (indices, counts), batch in zip(plan, _batches(encoded, plan, loader), strict=True):
            batch = to_device(dict(batch), accelerator.device)
            batch.pop("index")
            with torch.no_grad(), accelerator.autocast():  # inference_mode breaks FSDP2's later forwards
                ids = model.generate(**batch, **arguments)
            mine = [
                processor.decode(row.tolist(), items[index], index) for index, row in zip(indices, ids, strict=True)
            ]
            everyones: list[Prediction] = gather_object(mine if counts else [])
            for prediction in everyones:
                assert prediction.index == done, f"item {prediction.index} where {done} was due"
                done += 1
                yield prediction
            bar.update(len(everyones))
    assert done == len(items), f"{done} predictions for {len(items)} items"


def mean_loss(
    model: nn.Module, items: ItemDataset, processor: Processor, loader: Loader, accelerator: Accelerator
) -> float:
    """Cross entropy per supervised token over the whole set, each item counted once."""
    plan = shares(len(items), loader.batch_size, accelerator.num_processes, accelerator.process_index)
    encoded = Encoded(items, processor, training=False)
    total = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    bar = tqdm(
        zip(plan, _batches(encoded, plan, loader), strict=True),
        total=len(plan),
        desc="loss",
        disable=not accelerator.is_main_process,
        unit="batch",
    )
    for (_, counts), batch in bar:
        batch = to_device(dict(batch), accelerator.device)
        del batch["index"], batch["cut_answers"]
        with torch.no_grad(), accelerator.autocast():
            loss = model(**batch, num_items_in_batch=1).loss
        if counts:
            total += torch.stack([loss.detach().double(), (batch["labels"][:, 1:] >= 0).sum().double()])
    total = accelerator.reduce(total, reduction="sum")
    return float(total[0] / total[1].clamp(min=1))


def _batches(encoded: Encoded, plan: Sequence[tuple[list[int], bool]], loader: Loader) -> DataLoader[Any]:
    return DataLoader(
        encoded,
        batch_sampler=[indices for indices, _ in plan],
        collate_fn=loader.collator,
        num_workers=loader.num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def stopping(processor: Processor) -> dict[str, Any]:
    """Generation arguments that end an answer where the template does."""
    tokenizer: Any = processor.tokenizer
    ends = [tokenizer.eos_token_id]
    stop = tokenizer(processor.stop, add_special_tokens=False)["input_ids"]
    if len(stop) == 1:
        return {"eos_token_id": sorted({*ends, *stop}), "pad_token_id": tokenizer.pad_token_id}
    return {
        "eos_token_id": ends,
        "pad_token_id": tokenizer.pad_token_id,
        "stop_strings": [processor.stop],
        "tokenizer": tokenizer,
    }


def _in_step(accelerator: Accelerator) -> dict[str, Any]:
    """Generation arguments that keep ranks of a sharded model at the same number of forward passes."""
    sharded = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    return {"synced_gpus": True} if sharded and accelerator.num_processes > 1 else {}
