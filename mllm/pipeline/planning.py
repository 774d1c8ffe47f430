"""Which items make which batch of packed rows: planned ahead by what they will cost, so that no rank waits for another.

The items of an epoch are taken in windows of a number of steps, in the shuffled order, and dealt to the batches of
these steps. Plans follow from the seed, the epoch and the number of ranks alone, and every rank makes all of them.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapreplace

from PIL import Image
from torch.utils.data import Sampler

from mllm.conversation.packing import Length
from mllm.conversation.prefix_tree import Segment, prefix_tree
from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor
from mllm.models.base import VisionLanguageModel
from mllm.models.parts import part_of
from mllm.pipeline.train_data import SeededEpochSampler, TrainDataset

WINDOW = 16
"""Steps that are planned together."""
SQUARE = (448, 448)
"""The image, width and height in pixels, from which the cost of an image's tokens is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An item of the training set, as far as a plan must know it."""

    index: int
    images: Hashable
    """What items about the same images have in common; None: it shares with no other."""
    lengths: tuple[Length, ...]
    """Of each of its examples; none where it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a batch costs, in tokens of the language model.

    Attributes:
        pair: a token that sees another.
        image_token: encoding what becomes one token of an image.
    """

    pair: float = 0.0
    image_token: float = 0.0

    def __call__(self, group: Sequence[Measured]) -> float:
        """Of items in one batch, which have their images in common where there are several."""
        tree = segments(group)
        seen = sum(len(each) * (each.start + (len(each) + 1) / 2) for each in tree)
        images = max((each.images for item in group for each in item.lengths), default=0)
        return sum(map(len, tree)) + self.pair * seen + self.image_token * images


def segments(group: Sequence[Measured]) -> list[Segment]:
    """The trees that the collator makes of these items in one batch, see `packing.group_by_image`."""
    alike: dict[Hashable, list[Length]] = {}
    for number, item in enumerate(group):
        for each in item.lengths:
            alike.setdefault(each.beginning or number, []).append(each)
    return [
        segment
        for lengths in alike.values()
        for segment in prefix_tree(
            [each.question for each in lengths], [each.tokens for each in lengths], head=lengths[0].shared
        )
    ]


def row_tokens(group: Sequence[Measured]) -> int:
    """Of a row of these items."""
    return sum(map(len, segments(group)))


def cost_of(model: VisionLanguageModel, view: ImagePreprocessor) -> Cost:
    """What follows from the sizes of a model's parts: multiplications with weights, and between tokens.

    A layer of width D multiplies a token with about 12 D^2 weights, and with 2 D numbers for each token that it sees.
    """
    sizes: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        passes = 3 if parameter.requires_grad else 2 if part == "language_model" else 1  # backward: twice, once, never
        sizes[part] = sizes.get(part, 0) + passes * getattr(parameter, "ds_numel", parameter.numel())
    pair = 1 / (6 * model.config.get_text_config().hidden_size)
    if not view.token or "vision_tower" not in sizes:
        return Cost(pair=pair)
    patches = _patches(model, view) / view.placeholder_tokens(SQUARE).count(view.feature)
    return Cost(pair=pair, image_token=patches * sizes["vision_tower"] / sizes["language_model"])


def _patches(model: VisionLanguageModel, view: ImagePreprocessor) -> float:
    """Of a square image, through the vision tower."""
    side = getattr(model.config.vision_config, "patch_size", 16)  # an encoder without patches pools its pixels too
    side = side if isinstance(side, int) else side[0]
    image = view(Image.new("RGB", SQUARE))
    return sum(tensor.numel() for tensor in image.values() if tensor.is_floating_point()) / (3 * side**2)


def deal(items: Sequence[Measured], batches: int, cost: Cost, *, room: int | None = None) -> list[list[int]]:
    """The items as so many batches of nearly equal cost, none of them empty, the cheapest first.

    Items with the same images go into one batch, unless that would make it a dear one, or a row longer than `room`.

    Source: longest processing time first, Graham 1969.
    """
    groups = _grouped(items, cost, float("inf"), room)
    groups = _grouped(items, cost, sum(map(cost, groups)) / batches, room)
    while len(groups) < batches:
        groups.sort(key=len)
        largest = groups.pop()
        groups += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    loads = [(0.0, 0, number) for number in range(batches)]
    dealt: list[list[int]] = [[] for _ in loads]
    for dearness, group in sorted(((cost(group), group) for group in groups), key=lambda pair: -pair[0]):
        load, count, number = loads[0]
        dealt[number] += [item.index for item in group]
        heapreplace(loads, (load + dearness, count + len(group), number))
    return [dealt[number] for _, _, number in sorted(loads)]


def _grouped(items: Sequence[Measured], cost: Cost, bound: float, room: int | None) -> list[list[Measured]]:
    found: list[list[Measured]] = []
    open_groups: dict[Hashable, list[Measured]] = {}
    for item in items:
        group = open_groups.get(item.images, []) if item.images is not None else []
        larger = [*group, item]
        if not group or cost(larger) > bound or (room is not None and row_tokens(larger) > room):
            group = []
            found.append(group)
            open_groups[item.images] = group
        group.append(item)
    return found


class PlannedBatches(Sampler[list[int]]):
    """The batches of all ranks in an epoch, those of a step one after the other: batch n is for rank n % `ranks`.

    Each item comes once; only where there are fewer than batches, the first come again. `drop_last` leaves out those of
    a step that is not full. `batch_size` is the mean number of a batch's items.
    While the batches of a window are handed out, the items of the next are measured, some at each batch.
    """

    def __init__(
        self,
        dataset: TrainDataset,
        order: SeededEpochSampler,
        *,
        batch_size: int,
        ranks: int,
        cost: Cost,
        sharing: bool,
        window: int = WINDOW,
        room: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.dataset = dataset
        self.order = order
        self.ranks = ranks
        self.per_step = batch_size * ranks
        self.cost = cost
        self.sharing = sharing
        self.window = window
        self.room = room
        self.drop_last = drop_last
        self.done = 0
        """Steps of the coming epoch that nobody will look at, since a run goes on behind them."""

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.per_step)
        return (full if self.drop_last or not rest else full + 1) * self.ranks

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.order)
        windows = self._windows()
        skipped = min(self.done // self.window, len(windows) - 1)
        for steps in windows[:skipped]:
            yield from [[]] * (len(steps) * self.ranks)
        ahead: list[Measured] = []
        for number, steps in enumerate(windows[skipped:], start=skipped):
            items = ahead + [self.measure(index) for index in self._due(order, steps)[len(ahead) :]]
            coming = self._due(order, windows[number + 1]) if number + 1 < len(windows) else []
            share = -(-len(coming) // (len(steps) * self.ranks))
            ahead = []
            for batch in self._plan(items, steps):
                yield batch
                ahead += [self.measure(index) for index in coming[len(ahead) : len(ahead) + share]]

    def _windows(self) -> list[range]:
        """Of steps; the last is longer by those that do not make a window."""
        steps = len(self) // self.ranks
        ends = [self.window * number for number in range(1, steps // self.window)] + [steps] * (steps > 0)
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def measure(self, index: int) -> Measured:
        images, lengths = self.dataset.lengths(index)
        shared = self.sharing and any(length.shared for length in lengths)
        return Measured(index=index, images=images if shared else None, lengths=lengths)

    def _due(self, order: Sequence[int], steps: range) -> Sequence[int]:
        due = order[steps.start * self.per_step : steps.stop * self.per_step]
        missing = range(len(steps) * self.ranks - len(due))
        return [*due, *(order[number % len(order)] for number in missing)]

    def _plan(self, items: Sequence[Measured], steps: range) -> list[list[int]]:
        """Batches of like cost in one step, the steps in no order."""
        dealt = deal(items, len(steps) * self.ranks, self.cost, room=self.room)
        rng = random.Random(f"plan {self.order.seed} {self.dataset.epoch} {steps.start}")
        planned = [dealt[first : first + self.ranks] for first in range(0, len(dealt), self.ranks)]
        for step in planned:
            rng.shuffle(step)
        rng.shuffle(planned)
        return [batch for step in planned for batch in step]
