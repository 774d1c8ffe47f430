"""SmolVLM and Idefics3: the image enlarged and cut into square tiles, and as a whole behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from mllm.compat.transformers_files import size_by_longest_side
from mllm.geometry import Placement, resize
from mllm.models.native.family import Family
from mllm.models.native.placing import Size
from mllm.models.native.tensors import Tensors
from mllm.registry import FAMILIES

TOKEN, AROUND, WHOLE = "<image>", "<fake_token_around_image>", "<global-img>"


@FAMILIES.register_module(["smolvlm", "idefics3"])
def idefics3() -> Family:
    """Trained on no boxes: they are spoken as Shikra writes them.

    The placeholder text is written here: the processor would cut a blank image of each size into tiles to tell it.

    Source: Laurencon et al. 2024 (arXiv 2408.12637), Marafioti et al. 2025 (arXiv 2504.05299).
    """
    return Family(
        codec="shikra",
        token=TOKEN,
        place=_place,
        placeholder_tokens=_placeholder_tokens,
        join=_join,
        more=_nothing_more,
    )


def _place(processor: Any, size: Size) -> Placement:
    """Two resizes that round; with tiles, up to whole ones."""
    side = processor.max_image_size["longest_edge"]
    if not processor.do_image_splitting:
        return resize(size, (side, side))
    height, width = size[1], size[0]
    if processor.do_resize:
        blank = np.broadcast_to(0, (height, width))  # only its shape is read
        height, width = size_by_longest_side(blank, processor.size.longest_edge)
    aspect = width / height
    if width >= height:
        width = math.ceil(width / side) * side
        height = math.ceil(int(width / aspect) / side) * side
    else:
        height = math.ceil(height / side) * side
        width = math.ceil(int(height * aspect) / side) * side
    return resize(size, (width, height))


def _placeholder_tokens(config: PreTrainedConfig, processor: Any, size: Size) -> str:
    side = processor.max_image_size["longest_edge"]
    vision = config.vision_config
    features = TOKEN * int((vision.image_size // vision.patch_size) ** 2 / config.scale_factor**2)
    width, height = _place(processor, size).canvas
    columns, rows = width // side, height // side
    if columns * rows == 1:
        return f"{AROUND}{WHOLE}{features}{AROUND}"
    tiles = "".join(
        "".join(f"{AROUND}<row_{row}_col_{column}>{features}" for column in range(1, columns + 1)) + "\n"
        for row in range(1, rows + 1)
    )
    return f"{tiles}\n{AROUND}{WHOLE}{features}{AROUND}"


def _join(images: Sequence[Tensors]) -> dict[str, Tensor]:
    # every tile is whole, so the mask of its pixels says nothing
    return {"pixel_values": torch.cat([image["pixel_values"][0] for image in images])[None]}


def _nothing_more(
    model: PreTrainedModel, ids_BT: Tensor, labels_BT: Tensor | None, images: Tensors
) -> dict[str, Tensor]:
    return {}
