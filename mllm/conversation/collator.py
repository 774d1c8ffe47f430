"""Examples -> Batch: rows of one length, and every distinct image once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from mllm.conversation.packing import (
    NO_PREFIX,
    PADDING,
    bin_pack,
    concatenate,
    group_by_image,
    labels_of,
    prefix_and_suffixes,
    prefix_tree_row,
)
from mllm.conversation.rendering import IGNORE
from mllm.errors import ConfigError
from mllm.fields import show
from mllm.images import ImageRef
from mllm.types import Batch, EncodedSample

Packing = Literal["none", "rows", "shared"]
Slot = tuple[ImageRef, Mapping[str, Tensor]]
"""The image of a placeholder, and the model's arguments for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collator:
    """Pads on the right where there are labels, on the left in prompts: generation continues from the last column.

    `packing="rows"`: labelled examples stand one after the other, none seeing another, all in one row or in rows of at
    most `max_tokens`. `packing="shared"`: the same, but what the examples of a batch about the same images begin with,
    or texts of one entry, is in the row once, to any depth: several answers to one question share this question, too
    (`packing.group_by_image`, `packing.prefix_tree_row`); of prompts what those of an entry begin with
    (`packing.prefix_and_suffixes`). `pad_to_multiple_of`: round the row length up, for hardware that likes it.

    `index` of a batch tells in which order its examples, and so their labels, are in its rows.
    """

    pad_token_id: int
    packing: Packing = "none"
    max_tokens: int | None = None
    pad_to_multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.packing not in get_args(Packing):
            expected = f"one of {', '.join(map(repr, get_args(Packing)))}"
            raise ConfigError(field="collator_kwargs.packing", expected=expected, found=show(self.packing))

    def __call__(self, entries: Sequence[EncodedSample | Sequence[EncodedSample]]) -> Batch:
        groups = [[entry] if isinstance(entry, EncodedSample) else list(entry) for entry in entries]
        if self.packing != "shared":
            groups = [[example] for group in groups for example in group]
        slots: list[Slot] | None = None
        if groups[0][0].labels is None and self.packing == "shared":
            batch, slots = self._branches(groups)
        elif groups[0][0].labels is None:
            batch = self._prompts(groups)
        elif self.packing == "none":
            batch = self._labelled(groups)
        else:
            batch, groups = self._packed(groups)
        examples = [example for group in groups for example in group]
        if examples[0].labels is not None:
            labels = torch.tensor([int((labels_of(example)[1:] != IGNORE).sum()) for example in examples])
            sources = torch.tensor([example.source for example in examples])
            batch["label_sources"] = torch.repeat_interleave(sources, labels)
        batch["index"] = torch.tensor([example.index for example in examples])
        skipped = [reason for example in examples for reason in example.skipped]
        if skipped:
            batch["skipped"] = skipped
        _add_images(batch, [slot for group in groups for slot in _slots(group[0])] if slots is None else slots)
        return batch

    def _prompts(self, groups: Sequence[Sequence[EncodedSample]]) -> Batch:
        rows = [example.input_ids for (example,) in groups]
        return Batch(
            input_ids=self._pad(rows, self.pad_token_id, left=True),
            attention_mask=self._pad([torch.ones_like(row) for row in rows], 0, left=True),
        )

    def _branches(self, groups: Sequence[Sequence[EncodedSample]]) -> tuple[Batch, list[Slot]]:
        """The batch, and its images: those of the prefixes, then those of the suffixes."""
        split = [prefix_and_suffixes(group) for group in groups]
        prefixes = [prefix for prefix, _, _ in split]
        rests = [rest for _, group, _ in split for rest in group]
        slots: list[Slot] = []
        for group, (_, _, inside) in zip(groups, split, strict=True):
            slots += _slots(group[0])[:inside]
        for group, (_, _, inside) in zip(groups, split, strict=True):
            slots += [slot for example in group for slot in _slots(example)[inside:]]
        batch = Batch(
            input_ids=self._pad(prefixes, self.pad_token_id, left=True),
            attention_mask=self._pad([torch.ones_like(row) for row in prefixes], 0, left=True),
            suffix_ids=self._pad(rests, self.pad_token_id, left=True),
            suffix_mask=self._pad([torch.ones_like(row) for row in rests], 0, left=True),
            suffix_prefix=torch.tensor([number for number, (_, group, _) in enumerate(split) for _ in group]),
        )
        return batch, slots

    def _labelled(self, groups: Sequence[Sequence[EncodedSample]]) -> Batch:
        rows = [example.input_ids for (example,) in groups]
        return Batch(
            input_ids=self._pad(rows, self.pad_token_id),
            attention_mask=self._pad([torch.ones_like(row) for row in rows], 0),
            labels=self._pad([labels_of(example) for (example,) in groups], IGNORE),
        )

    def _packed(self, groups: Sequence[Sequence[EncodedSample]]) -> tuple[Batch, list[Sequence[EncodedSample]]]:
        """The batch, and the groups in the order in which its rows hold them."""
        if self.packing == "shared":
            groups = group_by_image(groups, self.max_tokens)
        pieces = [prefix_tree_row(group) for group in groups]
        plan = bin_pack([len(piece) for piece in pieces], self.max_tokens)
        rows = [concatenate([pieces[number] for number in row]) for row in plan]
        batch = Batch(
            input_ids=self._pad([row.input_ids for row in rows], self.pad_token_id),
            labels=self._pad([row.labels for row in rows], IGNORE),
            position_ids=self._pad([row.position_ids for row in rows], 0),
            segment_ids=self._pad([row.segment_ids for row in rows], PADDING),
            prefix_ids=self._pad([row.prefix_ids for row in rows], NO_PREFIX),
        )
        return batch, [groups[number] for row in plan for number in row]

    def _pad(self, rows: Sequence[Tensor], value: int, *, left: bool = False) -> Tensor:
        longest = max(len(row) for row in rows)
        length = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        sides = [(length - len(row), 0) if left else (0, length - len(row)) for row in rows]
        return torch.stack(
            [torch.nn.functional.pad(row, side, value=value) for row, side in zip(rows, sides, strict=True)]
        )


def _slots(example: EncodedSample) -> list[Slot]:
    return list(zip(example.images, example.pixels, strict=True))


def _add_images(batch: Batch, slots: Sequence[Slot]) -> None:
    rows: dict[ImageRef, int] = {}
    pixels: list[Mapping[str, Tensor]] = []
    for ref, image in slots:
        if ref not in rows:
            rows[ref] = len(pixels)
            pixels.append(image)
    if pixels:
        for name in pixels[0]:  # the model's own names for what its view made
            cast("dict[str, Tensor]", batch)[name] = torch.cat([image[name] for image in pixels])
        batch["image_index"] = torch.tensor([rows[ref] for ref, _ in slots])
