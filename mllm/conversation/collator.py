"""Examples -> Batch: rows of one length, and every distinct picture once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mllm.conversation.rendering import IGNORE
from mllm.images import ImageRef
from mllm.types import Batch, Example


class Collator:
    """Pads on the right where there are labels, on the left in prompts: generation continues from the last column.

    `pad_to_multiple_of`: round the row length up, for hardware that likes it.
    """

    def __init__(self, *, pad_token_id: int, pad_to_multiple_of: int = 1) -> None:
        self.pad_token_id = pad_token_id
        self.multiple = pad_to_multiple_of

    def __call__(self, examples: Sequence[Example]) -> Batch:
        labelled = examples[0].labels is not None
        longest = max(len(example.input_ids) for example in examples)
        length = -(-longest // self.multiple) * self.multiple

        def pad(row: Tensor, value: int) -> Tensor:
            short = length - len(row)
            return torch.nn.functional.pad(row, (0, short) if labelled else (short, 0), value=value)

        batch = Batch(
            input_ids=torch.stack([pad(example.input_ids, self.pad_token_id) for example in examples]),
            attention_mask=torch.stack([pad(torch.ones_like(example.input_ids), 0) for example in examples]),
            index=torch.tensor([example.index for example in examples]),
        )
        if labelled:
            batch["labels"] = torch.stack([pad(_labels(example), IGNORE) for example in examples])
            batch["cut_answers"] = torch.tensor([example.cut_tokens > 0 for example in examples])
        rows: dict[ImageRef, int] = {}
        pixels: list[Tensor] = []
        slots: list[int] = []
        for example in examples:
            for ref, picture in zip(example.images, example.pixels, strict=True):
                if ref not in rows:
                    rows[ref] = len(pixels)
                    pixels.append(picture)
                slots.append(rows[ref])
        if pixels:
            batch["pixels"] = torch.stack(pixels)
            batch["image_index"] = torch.tensor(slots)
        return batch


def _labels(example: Example) -> Tensor:
    assert example.labels is not None, f"{example.key}: a prompt among labelled examples"
    return example.labels
