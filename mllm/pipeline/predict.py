"""Evaluation: every item of a test set exactly once, however many processes share the work.

Processes take turns; answers are joined to their items by index and come in dataset order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from mllm.conversation.collator import Collator
from mllm.conversation.packing import groups
from mllm.conversation.processor import Processor
from mllm.pipeline.encoded import Grouped, ItemDataset, to_device
from mllm.types import Item, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How an evaluation reads its data."""

    collator: Collator
    batch_size: int
    num_workers: int = 0


def batches(items: ItemDataset, size: int, *, sharing: bool) -> list[list[list[int]]]:
    """All indices, `size` of them in a batch at most; those with the same pictures in one group where `sharing`."""
    items.set_epoch(None)
    found: list[list[list[int]]] = []
    room = 0
    for group in groups(_all(items), size) if sharing else ([n] for n in range(len(items))):
        if len(group) > room:
            found.append([])
            room = size
        found[-1].append(group)
        room -= len(group)
    return found


def _all(items: ItemDataset) -> Iterator[Item]:
    return (items[n] for n in range(len(items)))


def share_out(count: int, ranks: int, rank: int) -> list[tuple[int, bool]]:
    """Which of `count` batches one rank takes, and whether they count.

    Every rank gets as many, as sharded models need; one with nothing left repeats the first and does not count it.
    """
    turns = range(rank, -(-count // ranks) * ranks, ranks)
    return [(number, True) if number < count else (0, False) for number in turns]


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

    Where the model can, prompts about the same pictures share one reading of them. `generation` goes to transformers'
    `generate`.
    """
    items.set_epoch(None)
    # what branches off a shared beginning needs a token of its own that is not a picture's; all ranks decide alike
    sharing = getattr(model, "branches", False) and not any(map(processor.ends_in_picture, _all(items)))
    work = _Work(items, processor, loader, accelerator, sharing=sharing, answer=False)
    arguments = {**stopping(processor), **_in_step(accelerator), **generation}
    generate = model.generate_branches if sharing else model.generate
    waiting: dict[int, Prediction] = {}
    done = 0
    with tqdm(total=len(items), desc=description, disable=not accelerator.is_main_process, unit="item") as bar:
        for indices, counts, batch in work:
            with torch.no_grad(), accelerator.autocast():  # inference_mode breaks FSDP2's later forwards
                ids = generate(**batch, **arguments)
            mine = [
                processor.decode(row.tolist(), items[index], index) for index, row in zip(indices, ids, strict=True)
            ]
            everyones: list[Prediction] = gather_object(mine if counts else [])
            waiting |= {prediction.index: prediction for prediction in everyones}
            while done in waiting:
                yield waiting.pop(done)
                done += 1
            bar.update(len(everyones))
    assert done == len(items), f"{done} predictions for {len(items)} items"


def mean_loss(
    model: nn.Module, items: ItemDataset, processor: Processor, loader: Loader, accelerator: Accelerator
) -> float:
    """Cross entropy per supervised token over the whole set, each item counted once."""
    work = _Work(items, processor, loader, accelerator, sharing=loader.collator.packing == "shared", answer=True)
    total = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for _, counts, batch in tqdm(work, desc="loss", disable=not accelerator.is_main_process, unit="batch"):
        del batch["cut_answers"]
        with torch.no_grad(), accelerator.autocast():
            loss = model(**batch, num_items_in_batch=1).loss
        if counts:
            total += torch.stack([loss.detach().double(), (batch["labels"][:, 1:] >= 0).sum().double()])
    total = accelerator.reduce(total, reduction="sum")
    return float(total[0] / total[1].clamp(min=1))


class _Work:
    """One rank's batches of a test set on its device: (indices of the items, whether they count, batch)."""

    def __init__(
        self,
        items: ItemDataset,
        processor: Processor,
        loader: Loader,
        accelerator: Accelerator,
        *,
        sharing: bool,
        answer: bool,
    ) -> None:
        plan = batches(items, loader.batch_size, sharing=sharing)
        self.device = accelerator.device
        self.turns = share_out(len(plan), accelerator.num_processes, accelerator.process_index)
        numbers = count()
        places = [[next(numbers) for _ in batch] for batch in plan]
        self.indices = [[index for group in batch for index in group] for batch in plan]
        self.loader: DataLoader[Any] = DataLoader(
            Grouped(items, processor, [group for batch in plan for group in batch], answer=answer),
            batch_sampler=[places[number] for number, _ in self.turns],
            collate_fn=replace(loader.collator, packing="shared" if sharing else "none"),
            num_workers=loader.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[tuple[list[int], bool, dict[str, Any]]]:
        for (number, counts), batch in zip(self.turns, self.loader, strict=True):
            del batch["index"]
            yield self.indices[number], counts, to_device(dict(batch), self.device)


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
