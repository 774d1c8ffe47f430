"""Few-shot evaluation: each item behind answered items of another dataset, which show how to answer.

Source: Alayrac et al. 2022, Flamingo, arXiv 2204.14198; Awadalla et al. 2023, OpenFlamingo, arXiv 2308.01390.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal

from mllm.dataset.base import Dataset, seeded_rng
from mllm.dataset.mixing import Source, build_datasets, check_index
from mllm.dataset.multiturn import chained, check_answered, check_system
from mllm.dataset.questions import without_image
from mllm.errors import ConfigError, DataError
from mllm.fields import Count
from mllm.images import ImageRef, Video, VideoFrame
from mllm.images.contents import shared_images
from mllm.images.names import name_of
from mllm.registry import DATASETS, SIMILARITIES, SimilarityConfig
from mllm.types import GroundTruth, Item

Choice = Literal["random", "common"] | SimilarityConfig


@DATASETS.register_module()
class FewShot:
    """The items of a dataset, each after demonstrations: `shots` items of another dataset with their answers, as
    rounds of one conversation.

    The answer that evaluation asks for, the truth, the system message and the key are those of the item alone.

    Args:
        dataset: what is asked: a config, or a dataset already built.
        demonstrations: where the demonstrations are from, usually the training set.
        shots: demonstrations of each item.
        choose: "random", drawn for each item from (`seed`, epoch, index); "common", drawn once for all; or
            `dict(type="rices", vision_tower=...)`, those with the most similar images, the most similar one last.
        text_only: with `shots=0`, so many demonstrations without their images; 2 is OpenFlamingo's zero-shot.
        overlap: what becomes of demonstrations that are in `dataset` too, or have an image of it (the same file,
            bytes or pixels): "refuse" them with an error, or "leave_out".
        seed: of the draws.

    Raises:
        ConfigError: there are fewer demonstrations than `shots`.
        DataError: a demonstration is in `dataset` too; on access: one without an answer, with another system message
            than the item's, or a text-only one with a region; with similar ones an item without an image.
    """

    def __init__(
        self,
        *,
        dataset: Source,
        demonstrations: Source,
        shots: Count,
        choose: Choice = "random",
        text_only: Count = 0,
        overlap: Literal["refuse", "leave_out"] = "refuse",
        seed: int = 0,
    ) -> None:
        self.dataset = build_datasets(dataset)
        self.demonstrations = build_datasets(demonstrations)
        self.shots = shots
        self.count = shots or text_only
        self.choose = choose
        self.seed = seed
        self.epoch: int | None = None
        found = shared_items(self.dataset, self.demonstrations) if self.count else {}
        if found and overlap == "refuse":
            number, what = next(iter(found.items()))
            raise DataError(
                "overlap='leave_out' leaves such demonstrations out",
                where=self.demonstrations[number].key,
                field="demonstrations",
                expected="items and images that are not in the test set",
                found=what,
                kind="overlap",
            )
        self.pool = [number for number in range(len(self.demonstrations)) if number not in found]
        """Indices of the demonstrations that may be taken."""
        if self.count > len(self.pool):
            expected = f"at most {len(self.pool)}, the demonstrations that there are"
            raise ConfigError(field="shots" if shots else "text_only", expected=expected, found=str(self.count))
        self._nearest: Sequence[Sequence[int]] | None = None
        if isinstance(choose, Mapping) and self.count:
            self._nearest = self._similar(choose)

    def _similar(self, cfg: Mapping[str, object]) -> Sequence[Sequence[int]]:
        """Of each item the places in the pool of the most similar demonstrations, the most similar first."""
        asked = [_image_of(self.dataset[index]) for index in range(len(self.dataset))]
        shown = [_image_of(self.demonstrations[number]) for number in self.pool]
        return SIMILARITIES.make(cfg).nearest(asked, shown, self.count)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        dataset, own = self.part(index)
        taken = [self.demonstrations[number] for number in self.chosen(index)]
        if not self.shots:
            taken = list(map(text_alone, taken))
        return prepend_demonstrations(dataset[own], taken)

    def part(self, index: int) -> tuple[Dataset, int]:
        """The dataset that an item is of, and its index there."""
        check_index(self, index)
        return self.dataset, index

    def chosen(self, index: int) -> list[int]:
        """Which demonstrations an item has, in their order."""
        if self._nearest is not None:
            return [self.pool[place] for place in self._nearest[index]][::-1]
        rng = seeded_rng(self.seed, self.epoch, index)
        if self.choose == "common":
            rng = random.Random(f"common {self.seed} {self.epoch}")
        return rng.sample(self.pool, self.count)

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch
        self.dataset.set_epoch(epoch)
        self.demonstrations.set_epoch(epoch)


def prepend_demonstrations(item: Item, demonstrations: Sequence[Item]) -> Item:
    """An item behind others, each with its images.

    Raises:
        DataError: one of the others has no answer, or a system message that is not the item's.
    """
    if not demonstrations:
        return item
    check_answered(demonstrations)
    check_system(demonstrations, item.system, None)
    items = [*demonstrations, item]
    *starts, before = [0, *accumulate(len(each.images) for each in items)][:-1]
    whole = chained(
        items,
        [[turn.text for turn in each.turns] for each in items],
        [ref for each in items for ref in each.images],
        [*starts, before],
    )
    return replace(
        whole,
        key=item.key,
        truth=_moved(item.truth, before),
        group=item.group,
        expression=item.expression,
        system=item.system,
        demonstrations=tuple(each.key for each in demonstrations),
        demonstrated_images=before,
    )


def text_alone(item: Item) -> Item:
    """A demonstration without its images.

    Raises:
        DataError: its words name a region.
    """
    if any(turn.boxes_seq or turn.points_seq for turn in item.turns):
        expected = "words alone, since a text-only demonstration has no image"
        raise DataError(where=item.key, field="text_only", expected=expected, found="a region", kind="unsupported")
    turns = tuple(replace(turn, text=without_image(turn.text), image=None) for turn in item.turns)
    return replace(item, turns=turns, images=(), boxes=(), points=(), truth=GroundTruth())


def shared_items(asked: Any, shown: Any) -> dict[int, str]:
    """Which items of `shown` are in `asked` too, or have an image of it: index -> what they share.

    Items without images are the same where their words are.
    """
    for dataset in (asked, shown):
        dataset.set_epoch(None)
    keys: set[str] = set()
    words: dict[tuple[str, ...], str] = {}
    images: dict[ImageRef, str] = {}
    for index in range(len(asked)):
        item = asked[index]
        keys.add(item.key)
        for ref in _frames(item):
            images.setdefault(ref, item.key)
        if not item.images:
            words[_words(item)] = item.key
    of_shown: dict[ImageRef, list[int]] = {}
    found: dict[int, str] = {}
    for number in range(len(shown)):
        item = shown[number]
        if item.key in keys:
            found[number] = "the same item"
        elif not item.images and _words(item) in words:
            found[number] = f"the words of {words[_words(item)]}"
        for ref in _frames(item):
            of_shown.setdefault(ref, []).append(number)
    for ref, same in shared_images(images, of_shown).items():
        for number in of_shown[ref]:
            found.setdefault(number, f"the image of {images[same]}, {name_of(same)}")
    return dict(sorted(found.items()))


def _frames(item: Item) -> list[ImageRef]:
    frames = [frame for ref in item.images for frame in (ref.frames if isinstance(ref, Video) else (ref,))]
    return [frame.ref if isinstance(frame, VideoFrame) else frame for frame in frames]


def _words(item: Item) -> tuple[str, ...]:
    return tuple(turn.text for turn in item.turns)


def _image_of(item: Item) -> ImageRef:
    if not item.images:
        expected = "an image, to which similar ones are looked for"
        raise DataError(where=item.key, field="images", expected=expected, found="none", kind="image-count")
    return item.images[item.answer_image]


def _moved(truth: GroundTruth, by: int) -> GroundTruth:
    """The truth of an item whose images come after `by` others."""
    boxes, candidates = (
        tuple(replace(box, image=box.image + by) for box in regions) for regions in (truth.boxes, truth.candidates)
    )
    points = tuple(replace(point, image=point.image + by) for point in truth.points)
    return replace(truth, boxes=boxes, points=points, candidates=candidates)
