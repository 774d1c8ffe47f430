"""Examples -> Batch: rows of one length, and every distinct picture once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from mllm.conversation.packing import PADDING, branch, share
from mllm.conversation.rendering import IGNORE
from mllm.errors import ConfigError
from mllm.images import ImageRef
from mllm.types import Batch, Example

Packing = Literal["none", "shared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collator:
    """Pads on the right where there are labels, on the left in prompts: generation continues from the last column.

    `packing="shared"`: each entry of a batch is a group of examples about the same pictures, which are there once: in
    a row of several answers (`packing.share`), or before what is left of each prompt (`packing.branch`).
    `pad_to_multiple_of`: round the row length up, for hardware that likes it.
    """

    pad_token_id: int
    packing: Packing = "none"
    pad_to_multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.packing not in ("none", "shared"):
            raise ConfigError(f"collator_kwargs.packing: expected 'none' or 'shared', found {self.packing!r}")

    def __call__(self, entries: Sequence[Example | Sequence[Example]]) -> Batch:
        groups = [[entry] if isinstance(entry, Example) else list(entry) for entry in entries]
        examples = [example for group in groups for example in group]
        if examples[0].labels is None:
            batch = self._branches(groups) if self.packing == "shared" else self._prompts(examples)
        elif self.packing == "shared":
            batch = self._shared(groups)
        else:
            batch = self._labelled(examples)
        if examples[0].labels is not None:
            batch["cut_answers"] = torch.tensor([example.cut_tokens > 0 for example in examples])
        batch["index"] = torch.tensor([example.index for example in examples])
        # a shared row holds the pictures of its group once
        slots = [group[0] for group in groups] if self.packing == "shared" else examples
        _add_pictures(batch, slots)
        return batch

    def _prompts(self, examples: Sequence[Example]) -> Batch:
        rows = [example.input_ids for example in examples]
        return Batch(
            input_ids=self._pad(rows, self.pad_token_id, left=True),
            attention_mask=self._pad([torch.ones_like(row) for row in rows], 0, left=True),
        )

    def _branches(self, groups: Sequence[Sequence[Example]]) -> Batch:
        split = [branch(group) for group in groups]
        prefixes = [prefix for prefix, _ in split]
        rests = [rest for _, group in split for rest in group]
        return Batch(
            input_ids=self._pad(prefixes, self.pad_token_id, left=True),
            attention_mask=self._pad([torch.ones_like(row) for row in prefixes], 0, left=True),
            branch_ids=self._pad(rests, self.pad_token_id, left=True),
            branch_mask=self._pad([torch.ones_like(row) for row in rests], 0, left=True),
            branch_prefix=torch.tensor([number for number, (_, group) in enumerate(split) for _ in group]),
        )

    def _labelled(self, examples: Sequence[Example]) -> Batch:
        rows = [example.input_ids for example in examples]
        return Batch(
            input_ids=self._pad(rows, self.pad_token_id),
            attention_mask=self._pad([torch.ones_like(row) for row in rows], 0),
            labels=self._pad([_labels(example) for example in examples], IGNORE),
        )

    def _shared(self, groups: Sequence[Sequence[Example]]) -> Batch:
        rows = [share(group) for group in groups]
        return Batch(
            input_ids=self._pad([row.input_ids for row in rows], self.pad_token_id),
            labels=self._pad([row.labels for row in rows], IGNORE),
            position_ids=self._pad([row.position_ids for row in rows], 0),
            segment_ids=self._pad([row.segment_ids for row in rows], PADDING),
        )

    def _pad(self, rows: Sequence[Tensor], value: int, *, left: bool = False) -> Tensor:
        longest = max(len(row) for row in rows)
        length = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        sides = [(length - len(row), 0) if left else (0, length - len(row)) for row in rows]
        return torch.stack(
            [torch.nn.functional.pad(row, side, value=value) for row, side in zip(rows, sides, strict=True)]
        )


def _add_pictures(batch: Batch, examples: Sequence[Example]) -> None:
    rows: dict[ImageRef, int] = {}
    pixels: list[Mapping[str, Tensor]] = []
    slots: list[int] = []
    for example in examples:
        for ref, picture in zip(example.images, example.pixels, strict=True):
            if ref not in rows:
                rows[ref] = len(pixels)
                pixels.append(picture)
            slots.append(rows[ref])
    if pixels:
        for name in pixels[0]:  # the model's own names for what its view made
            cast("dict[str, Tensor]", batch)[name] = torch.cat([picture[name] for picture in pixels])
        batch["image_index"] = torch.tensor(slots)


def _labels(example: Example) -> Tensor:
    assert example.labels is not None, f"{example.key}: a prompt among labelled examples"
    return example.labels
