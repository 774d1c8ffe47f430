"""Pixels agree with transformers' own PIL-backed preprocessing, and lie where the Placement says."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor, VideoPreprocessor
from mllm.geometry import PlacementKind, resize_short_side
from mllm.images.decode import decode
from mllm.images.settings import ImageSettings

BICUBIC = Image.Resampling.BICUBIC
KINDS: tuple[PlacementKind, ...] = ("pad", "crop", "squash")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def levels(pixels: torch.Tensor) -> torch.Tensor:
    """Colours 0 to 255."""
    return (pixels * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (57, 57), (300, 41)])
def test_crop_is_clips_preprocessing(size: tuple[int, int]) -> None:
    image = noise(size)
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    ours = SquarePreprocessor(tokens=4, size=28, mean=MEAN, std=STD, placement="crop")(image)["pixels"][0]
    expected = torch.as_tensor(np.asarray(theirs(image)["pixel_values"][0]))
    assert torch.allclose(ours, expected, atol=1e-5)


@given(size=st.tuples(st.integers(5, 90), st.integers(5, 90)), side=st.integers(8, 40), kind=st.sampled_from(KINDS))
def test_work_that_is_left_out_changes_no_pixel(size: tuple[int, int], side: int, kind: PlacementKind) -> None:
    image = plain = noise(size)
    view = SquarePreprocessor(tokens=4, size=side, mean=MEAN, std=STD, placement=kind)
    if kind == "pad":
        plain = Image.new("RGB", (max(size), max(size)), view.background)
        plain.paste(image, ((max(size) - size[0]) // 2, (max(size) - size[1]) // 2))
    if kind == "crop":
        plain = image.resize(resize_short_side(size, side).canvas, BICUBIC)
        left, top = (plain.width - side) // 2, (plain.height - side) // 2
        plain = plain.crop((left, top, left + side, top + side))
    assert view.preview(image).tobytes() == plain.resize((side, side), BICUBIC).tobytes()


@given(size=st.tuples(st.integers(5, 200), st.integers(5, 200)), seed=st.integers(0, 9), kind=st.sampled_from(KINDS))
@example(size=(29, 59), seed=0, kind="crop")  # the height loses three pixels, the width one
def test_quicker_pixels_are_within_two_levels(size: tuple[int, int], seed: int, kind: PlacementKind) -> None:
    view = SquarePreprocessor(tokens=4, size=28, mean=MEAN, std=STD, placement=kind)
    image = noise(size, seed)
    exact, quick = levels(view(image)["pixels"]), levels(view.fast(image, size)["pixels"])
    assert quick.shape == (1, 3, 28, 28)
    assert (exact - quick).abs().max() < 2.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(427, 299), (299, 427), (641, 480), (480, 480)])
def test_a_reduced_image_lies_where_the_placement_says(kind: PlacementKind, size: tuple[int, int]) -> None:
    view = SquarePreprocessor(tokens=4, size=56, mean=MEAN, std=STD, placement=kind)
    gradient = np.stack(np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])), axis=-1)
    image = Image.fromarray(np.pad(gradient, ((0, 0), (0, 0), (0, 1))).astype(np.uint8))
    expected = levels(view(image)["pixels"])[0]
    file = io.BytesIO()
    image.save(file, "JPEG", quality=100, subsampling=0)
    reduced = decode(file, "a.jpg", ImageSettings(), at_least=view.resized_size(size))
    assert max(reduced.size) < max(size) / 1.9
    off = (expected - levels(view.fast(reduced, size)["pixels"])[0]).abs()
    bars = torch.nn.functional.max_pool2d(expected[None, 2:], 5, stride=1, padding=2)[0, 0] > 8  # and next to one
    # from side to side a pixel of the model is 255 / 56 = 4.6 levels: a shift by one shows
    assert off[:2, ~bars].max() < 3


def test_a_frame_is_seen_as_an_image_is() -> None:
    image = noise((40, 30))
    square, frames = (kind(tokens=4, size=28, mean=MEAN, std=STD) for kind in (SquarePreprocessor, VideoPreprocessor))
    video = frames.video([frames(image), frames.fast(image, image.size)])
    assert video["frames"].tolist() == [2]
    assert torch.equal(video["pixels"][:1], square(image)["pixels"])
    assert torch.equal(video["pixels"][1:], square.fast(image, image.size)["pixels"])


def test_pad_is_llavas_square_in_the_mean_colour() -> None:
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    seen = SquarePreprocessor(tokens=4, size=40, mean=MEAN, std=STD).preview(image)
    assert seen.getpixel((20, 20)) == (255, 0, 0)
    assert seen.getpixel((20, 2)) == (122, 116, 104)


@pytest.mark.parametrize("kind", ["pad", "crop", "squash"])
@pytest.mark.parametrize("size", [(96, 64), (64, 96)])
def test_pixels_lie_where_the_placement_says(kind: str, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (40, 30, 56, 46))
    view = SquarePreprocessor(tokens=4, size=32, mean=(0, 0, 0), std=(1, 1, 1), placement=kind)  # type: ignore[arg-type]
    rows, columns = np.nonzero(np.asarray(view.preview(image))[:, :, 0] > 127)
    placement = view.placement(size)
    x1, y1 = placement.forward(40, 30)
    x2, y2 = placement.forward(56, 46)
    assert (columns.min(), rows.min()) == pytest.approx((x1, y1), abs=1)
    assert (columns.max() + 1, rows.max() + 1) == pytest.approx((x2, y2), abs=1)
