"""HunyuanVL: images of any size, resized to whole patches with their aspect kept; positions on four axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mllm.models.native.family import Family
from mllm.registry import FAMILIES


@FAMILIES.register_module("hunyuan_vl")
def hunyuan_vl() -> Family:
    """Boxes are spoken as Shikra writes them.

    Source: Hunyuan Vision Team 2025 (arXiv 2511.19575); transformers' HunYuanVLModel.
    """
    return Family(codec="shikra", prepare=_prepare)


def _prepare(model: PreTrainedModel) -> None:
    """transformers 5.23 numbers the images of a whole batch, where its own docstring has those of a sequence."""
    model.model.get_rope_index = _RowByRow(model.model.get_rope_index)


class _RowByRow:
    """A model's `get_rope_index`, asked for each row with the images of that row."""

    def __init__(self, own: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self.own = own

    def __call__(
        self,
        input_ids: Tensor,
        mm_token_type_ids: Tensor,
        image_grid_thw: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **rest: Any,
    ) -> tuple[Tensor, Tensor]:
        image_BT = mm_token_type_ids == 1
        if attention_mask is not None:
            image_BT = image_BT & attention_mask.bool()
        starts_B = (image_BT & ~image_BT.roll(1, 1).index_fill(1, image_BT.new_zeros(1, dtype=torch.long), False)).sum(
            1
        )
        grids = [None] * len(input_ids) if image_grid_thw is None else image_grid_thw.split(starts_B.tolist())
        found = [
            self.own(
                input_ids[row : row + 1],
                mm_token_type_ids=mm_token_type_ids[row : row + 1],
                image_grid_thw=grid if grid is not None and len(grid) else None,
                attention_mask=None if attention_mask is None else attention_mask[row : row + 1],
                **rest,
            )
            for row, grid in enumerate(grids)
        ]
        return torch.cat([positions for positions, _ in found], 1), torch.cat([beyond for _, beyond in found])
