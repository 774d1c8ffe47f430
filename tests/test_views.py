"""Pixels agree with transformers' own PIL-backed preprocessing, and lie where the Placement says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mllm.views import SquareView

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (57, 57), (300, 41)])
def test_crop_is_clips_preprocessing(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    ours = SquareView(tokens=4, size=28, mean=MEAN, std=STD, placement="crop")(image)["pixels"][0]
    expected = torch.as_tensor(np.asarray(theirs(image)["pixel_values"][0]))
    assert torch.allclose(ours, expected, atol=1e-5)


def test_pad_is_llavas_square_in_the_mean_colour() -> None:
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    seen = SquareView(tokens=4, size=40, mean=MEAN, std=STD).arrange(image)
    assert seen.getpixel((20, 20)) == (255, 0, 0)
    assert seen.getpixel((20, 2)) == (122, 116, 104)


@pytest.mark.parametrize("kind", ["pad", "crop", "squash"])
@pytest.mark.parametrize("size", [(96, 64), (64, 96)])
def test_pixels_lie_where_the_placement_says(kind: str, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (40, 30, 56, 46))
    view = SquareView(tokens=4, size=32, mean=(0, 0, 0), std=(1, 1, 1), placement=kind)  # type: ignore[arg-type]
    rows, columns = np.nonzero(np.asarray(view.arrange(image))[:, :, 0] > 127)
    placement = view.placement(size)
    x1, y1 = placement.forward(40, 30)
    x2, y2 = placement.forward(56, 46)
    assert (columns.min(), rows.min()) == pytest.approx((x1, y1), abs=1)
    assert (columns.max() + 1, rows.max() + 1) == pytest.approx((x2, y2), abs=1)
