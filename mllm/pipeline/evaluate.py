"""Evaluation: every item of a test set exactly once, however many processes share the work.

Processes take turns; answers are joined to their items by index and come in dataset order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import StoppingCriteriaList, StopStringCriteria

from mllm.compat.transformers_generation import missing_steps
from mllm.conversation.collator import Collator
from mllm.conversation.packing import groups
from mllm.conversation.processor import Processor
from mllm.images.settings import current_settings
from mllm.interrupts import Interrupted
from mllm.models.base import VisionLanguageModel
from mllm.models.runtime.decoding import ContinuousBatcher, beams
from mllm.pipeline.origins import DatasetLosses, Origins
from mllm.pipeline.ranks import fail, noted_signal
from mllm.pipeline.train_data import EvalDataset, ItemDataset, start_worker, to_device
from mllm.types import Item, Prediction

logger = logging.getLogger(__name__)

SORTED = 16
"""Batches in which prompts are sorted by length."""
PORTIONS = 4
"""A batch begins in so many, the next ones where rows have finished."""
NOT_REFILLED = ("cpu",)
"""Devices on which a step costs what its rows cost, so that filling it wins nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How an evaluation reads its data."""

    collator: Collator
    batch_size: int
    num_workers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """All items of a test set in batches."""

    batches: list[list[list[int]]]
    """Indices, by groups that have their images, or their demonstrations, in common."""
    sharing: bool
    """Whether the items of a group share one reading of their beginning."""


def plan(
    items: ItemDataset,
    size: int,
    *,
    may_share: Callable[[Item], bool] | None,
    demonstrated: bool = False,
    portions: int = 1,
    first: int = 0,
) -> BatchPlan:
    """The items from the `first` on, at most `size` in a batch, or in so many `portions` of one; a larger
    group of items is a batch by itself.

    Those about an image are together, with `demonstrated` also those behind the same demonstrations, and in one group
    where every item `may_share`. What `SORTED` batches hold is sorted by the length of the prompts, the longest first,
    so that little of a batch is padding.
    """
    items.set_epoch(None)
    lengths: dict[int, int] = {}
    sharing: list[bool] = []

    def look() -> Iterator[Item]:
        for index in range(first, len(items)):
            item = items[index]
            lengths[index] = sum(len(turn.text) for turn in item.prompt)
            sharing.append(may_share is not None and may_share(item))
            yield item

    found = [[first + number for number in group] for group in groups(look(), size, demonstrated=demonstrated)]
    shares = may_share is not None and all(sharing)
    filled: list[list[list[int]]] = []
    for window in _windows(found, size * SORTED):
        room = 0
        for group in sorted(window, key=lambda group: -max(lengths[index] for index in group)):
            if len(group) > room:
                filled.append([])
                room = max(size // portions, 1)
            filled[-1] += [group] if shares else [[index] for index in group]
            room -= len(group)
    return BatchPlan(batches=filled, sharing=shares)


def _windows(found: list[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Of groups that hold so many items, or a few more."""
    window: list[list[int]] = []
    count = 0
    for group in found:
        window.append(group)
        count += len(group)
        if count >= size:
            yield window
            window, count = [], 0
    yield window


def share_out(count: int, ranks: int, rank: int) -> list[tuple[int, bool]]:
    """Which of `count` batches one rank takes, and whether they count.

    Every rank gets as many, as sharded models need; one with nothing left repeats the first and does not count it.
    """
    turns = range(rank, -(-count // ranks) * ranks, ranks)
    return [(number, True) if number < count else (0, False) for number in turns]


def predict(
    model: VisionLanguageModel,
    items: ItemDataset,
    processor: Processor,
    loader: Loader,
    accelerator: Accelerator,
    *,
    generation: Mapping[str, Any],
    description: str,
    seed: int = 0,
    first: int = 0,
) -> Iterator[Prediction]:
    """Generate and read back the answer of every item from the `first` on, in dataset order; on every rank the same.

    Where the model can, prompts with the same images or demonstrations share one reading of them, and on a GPU others
    take the places of rows that have finished. `generation` goes to transformers' `generate`; a sampled answer follows
    from `seed` and the item's index.

    Raises:
        ConfigError: `generation` asks for another way to decode than `ContinuousBatcher` knows.
    """
    branches = model.supports_prefix_sharing
    size = loader.batch_size if pads(model) else 1

    def may_share(item: Item) -> bool:
        return not processor.ends_in_image(item)  # a branch needs a token of its own that is not an image's

    arguments = {**stop_arguments(processor), **generation}
    synced = in_step(accelerator)
    refilling = branches and not synced and beams(model, arguments) == 1 and not missing_steps()
    refilling = refilling and accelerator.device.type not in NOT_REFILLED
    portions = PORTIONS if refilling else 1
    found = plan(
        items,
        size,
        may_share=may_share if branches else None,
        demonstrated=branches and model.branches_hold_images,
        portions=portions,
        first=first,
    )
    max_rows = size if refilling else None
    batcher = ContinuousBatcher(seed=seed, evict_finished=branches, max_rows=max_rows, synced=synced)

    def answered() -> list[Prediction]:
        return [processor.decode(ids, items[index], index) for index, ids in batcher.pop_finished().items()]

    def everyones() -> Iterator[list[Prediction]]:
        """What all ranks have found, as often on each."""
        work = Work(items, processor, loader, accelerator, found, answer=False)
        for number, (indices, counts, batch) in enumerate(work, start=1):
            end_if_signalled()
            if counts or synced:
                with torch.no_grad(), accelerator.autocast():  # inference_mode breaks FSDP2's later forwards
                    batcher.step_until_free(len(indices))
                    batcher.generate(model, indices, {**batch, **arguments}, shared=found.sharing)
            if synced and not counts:
                batcher.pop_finished()  # another rank gives these
            if number % portions == 0:
                yield gather_object(answered())
        with torch.no_grad(), accelerator.autocast():
            batcher.finish()
        yield gather_object(answered())

    yield from predictions_in_order(
        everyones(), range(first, len(items)), description, shown=accelerator.is_main_process
    )


def predictions_in_order(
    found: Iterable[Sequence[Prediction]], indices: range, description: str, *, shown: bool
) -> Iterator[Prediction]:
    """The predictions of these items in dataset order, each as soon as those before it are there."""
    waiting: dict[int, Prediction] = {}
    done = indices.start
    with tqdm(total=indices.stop, initial=done, desc=description, disable=not shown, unit="item") as bar:
        for predictions in found:
            waiting |= {prediction.index: prediction for prediction in predictions}
            while done in waiting:
                yield waiting.pop(done)
                done += 1
            bar.update(len(predictions))
    assert done == indices.stop, f"{done} predictions for {indices.stop} items"


def pads(model: VisionLanguageModel) -> bool:
    """Whether prompts of different lengths go into one batch; what a language model cannot do exactly is said."""
    if obstacle := model.sharing_obstacle:
        logger.info("questions about one image do not share its tokens: %s", obstacle)
    if obstacle := model.padding_obstacle:
        logger.info("prompts are answered one at a time, because padding would change the answers: %s", obstacle)
        return False
    return True


def mean_losses(
    model: nn.Module, items: ItemDataset, processor: Processor, loader: Loader, accelerator: Accelerator
) -> dict[str, float]:
    """Cross entropy per supervised token, each item counted once: `loss` of the whole set, and `loss/NAME` of each
    dataset where it is made of several.
    """
    origins = Origins(items)
    datasets = DatasetLosses(origins.names) if len(origins) > 1 else None
    packed = loader.collator.packing == "shared"
    batches = plan(items, loader.batch_size, may_share=(lambda _: True) if packed else None)
    work = Work(items, processor, loader, accelerator, batches, answer=True)
    total = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for _, counts, batch in tqdm(work, desc="loss", disable=not accelerator.is_main_process, unit="batch"):
        end_if_signalled()
        sources = batch.pop("label_sources")
        with torch.no_grad(), accelerator.autocast():
            found = model(**batch, num_items_in_batch=1)
        if counts:
            total += torch.stack([found.loss.double(), (batch["labels"][:, 1:] >= 0).sum().double()])
        if counts and datasets:
            datasets.add(found.token_losses, sources)
    total = accelerator.reduce(total, reduction="sum")
    return {"loss": float(total[0] / total[1].clamp(min=1)), **(datasets.means(accelerator) if datasets else {})}


def end_if_signalled() -> None:
    """Raises:
    Interrupted: a rank has noted a signal; all end between the same batches.
    """
    if signum := noted_signal():
        fail(Interrupted(signum, "the evaluation is not finished"))


class Work:
    """One rank's batches of a test set on its device: (indices of the items, whether they count, batch)."""

    def __init__(
        self,
        items: ItemDataset,
        processor: Processor,
        loader: Loader,
        accelerator: Accelerator,
        plan: BatchPlan,
        *,
        answer: bool,
    ) -> None:
        self.device = accelerator.device
        self.turns = share_out(len(plan.batches), accelerator.num_processes, accelerator.process_index)
        numbers = count()
        places = [[next(numbers) for _ in batch] for batch in plan.batches]
        self.indices = [[index for group in batch for index in group] for batch in plan.batches]
        self.loader: DataLoader[Any] = DataLoader(
            EvalDataset(items, processor, [group for batch in plan.batches for group in batch], answer=answer),
            batch_sampler=[places[number] for number, _ in self.turns],
            collate_fn=replace(loader.collator, packing="shared" if plan.sharing else "none"),
            num_workers=loader.num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=partial(start_worker, current_settings()),
        )

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[tuple[list[int], bool, dict[str, Any]]]:
        for (number, counts), batch in zip(self.turns, self.loader, strict=True):
            del batch["index"]
            yield self.indices[number], counts, to_device(dict(batch), self.device)


def stop_arguments(processor: Processor) -> dict[str, Any]:
    """Generation arguments that end an answer where the template does: at its token, or else at its words."""
    tokenizer: Any = processor.tokenizer
    ends = [tokenizer.eos_token_id]
    if processor.end_token_id is not None:
        return {"eos_token_id": sorted({*ends, processor.end_token_id}), "pad_token_id": tokenizer.pad_token_id}
    criteria = StoppingCriteriaList([StopStringCriteria(tokenizer, [processor.stop])])
    return {"eos_token_id": ends, "pad_token_id": tokenizer.pad_token_id, "stopping_criteria": criteria}


def in_step(accelerator: Accelerator) -> bool:
    """Whether all ranks must make the same number of forward passes, as of a sharded model."""
    sharded = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    return sharded and accelerator.num_processes > 1
