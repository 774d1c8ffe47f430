from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from mllm.errors import ImageError
from mllm.geometry import (
    MAX_PIXELS,
    MIN_PIXELS,
    PATCHES,
    Placement,
    PlacementKind,
    centre_crop,
    check_canvas,
    fit,
    flip,
    iou,
    pad_to_square,
    place,
    resize,
    resize_short_side,
)
from mllm.types import Box, Point

SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
KINDS = st.sampled_from(["pad", "crop", "squash"])
SIDES = st.integers(14, 256)
FRACTIONS = st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2))


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Up to four steps, of every kind, one after another."""
    placement = place(draw(KINDS), draw(SIZES), draw(SIDES))
    for _ in range(draw(st.integers(0, 3))):
        step = draw(st.sampled_from(["pad", "resize", "short", "crop", "flip"]))
        canvas = placement.canvas
        if step == "pad":
            after = pad_to_square(canvas)
        elif step == "resize":
            after = resize(canvas, draw(SIZES))
        elif step == "short":
            after = resize_short_side(canvas, draw(SIDES))
        elif step == "flip":
            after = flip(canvas)
        else:
            after = centre_crop(canvas, draw(SIZES))
        placement = placement.then(after)
    return placement


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, y1 = draw(st.floats(0, 1000)), draw(st.floats(0, 1000))
    return Box(x1=x1, y1=y1, x2=x1 + draw(st.floats(0.5, 1000)), y2=y1 + draw(st.floats(0.5, 1000)))


@given(placements(), FRACTIONS)
def test_inverse_undoes_forward(placement: Placement, at: tuple[float, float]) -> None:
    point = at[0] * placement.source[0], at[1] * placement.source[1]
    tolerance = 1e-6 * max(placement.source)
    assert placement.inverse(*placement.forward(*point)) == pytest.approx(point, abs=tolerance)
    assert placement.from_unit(*placement.to_unit(*point)) == pytest.approx(point, abs=tolerance)


@given(placements(), SIZES, FRACTIONS)
def test_then_applies_one_after_the_other(first: Placement, canvas: tuple[int, int], at: tuple[float, float]) -> None:
    second = resize(first.canvas, canvas)
    point = at[0] * first.source[0], at[1] * first.source[1]
    one_by_one = second.forward(*first.forward(*point))
    assert first.then(second).forward(*point) == pytest.approx(one_by_one, rel=1e-6, abs=1e-6 * max(canvas))


def test_then_refuses_a_placement_of_another_canvas() -> None:
    with pytest.raises(ValueError, match=r"canvas \(8, 8\) is followed by a placement of \(9, 9\)"):
        resize((4, 4), (8, 8)).then(resize((9, 9), (3, 3)))


@given(KINDS, SIZES, SIDES)
def test_place_fills_a_square(kind: str, size: tuple[int, int], side: int) -> None:
    placement = place(kind, size, side)  # pyright: ignore[reportArgumentType]
    assert placement.source == size
    assert placement.canvas == (side, side)


@given(SIZES, SIDES)
def test_pad_keeps_everything_and_crop_fills_the_canvas(size: tuple[int, int], side: int) -> None:
    corners = (0.0, 0.0), (float(size[0]), float(size[1]))
    for corner in corners:
        assert all(-1e-9 <= value <= 1 + 1e-9 for value in place("pad", size, side).to_unit(*corner))
    first, last = (place("crop", size, side).to_unit(*corner) for corner in corners)
    assert max(first) <= 1e-9
    assert min(last) >= 1 - 1e-9


def test_place_by_hand() -> None:
    # 100 x 60 in a square of 100: 20 rows above; then halved
    assert place("pad", (100, 60), 50).forward(10, 0) == pytest.approx((5, 10))
    # an odd difference: floor((100 - 61) / 2) = 19 rows above
    assert place("pad", (100, 61), 100).forward(0, 0) == (0, 19)
    # 100 x 60 -> 83 x 50 -> the middle 50: floor(33 / 2) = 16 columns cut on the left
    assert place("crop", (100, 60), 50).forward(0, 0) == (-16, 0)
    assert place("crop", (100, 60), 50).forward(100, 60) == (pytest.approx(67), pytest.approx(50))
    assert place("squash", (100, 60), 50).forward(100, 60) == (50, 50)


def test_fit_by_hand() -> None:
    # 100 x 60 in 50 x 50: 50 x 30, ten rows above
    wide = fit((100, 60), (50, 50))
    assert (wide.source, wide.canvas, wide.scale, wide.offset) == ((100, 60), (50, 50), (0.5, 0.5), (0, 10))
    assert fit((60, 100), (50, 50)).offset == (10, 0)
    # 100 x 61 -> 50 x 31, since 30.5 is rounded up, and floor(19 / 2) = 9 rows above
    odd = fit((100, 61), (50, 50))
    assert (odd.scale, odd.offset) == ((0.5, 31 / 61), (0, 9))
    odd = fit((61, 100), (50, 50))
    assert (odd.scale, odd.offset) == ((31 / 61, 0.5), (9, 0))
    # of the same shape: all of the canvas, also where 49 * (3 / 49) is more than 3
    assert fit((30, 20), (60, 40)).move_box(Box(x1=0, y1=0, x2=30, y2=20)) == Box(x1=0, y1=0, x2=60, y2=40)
    for size in ((49, 49), (1000, 999), (999, 1000)):
        assert fit(size, (3, 3)).to_unit(*size) == pytest.approx((1, 1))


def test_check_canvas_refuses_more_than_the_largest() -> None:
    check_canvas((1, 2), (20_000, 20_000))
    expected = "expected a canvas of at most 400,000,000 pixels, found 20,000 x 20,001 for 1 x 2 pixels"
    with pytest.raises(ImageError, match=f"{expected}; the image is too long and thin") as caught:
        check_canvas((1, 2), (20_000, 20_001))
    assert caught.value.kind == "refused-image"


def test_the_bounds_of_qwen_are_whole_blocks_of_patches() -> None:
    assert (PATCHES, MIN_PIXELS, MAX_PIXELS) == (2 * 14, 4 * 28**2, 16_384 * 28**2)


IMAGES = [(64, 48), (48, 64), (65, 48), (47, 64), (64, 64), (100, 41), (33, 90)]


def scene(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """White on black: the box alone."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    return image


def white_centre(array: np.ndarray) -> tuple[float, float]:
    """Centre of mass (x, y) of a [H, W] image, in pixels; pixel k covers k to k + 1."""
    weight = array.astype(np.float64)
    ys, xs = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return float((xs * weight).sum() / weight.sum()), float((ys * weight).sum() / weight.sum())


@pytest.mark.parametrize(("size", "side"), product(IMAGES, [32, 33, 48, 56]))
def test_crop_moves_pixels_as_the_clip_processor_does(size: tuple[int, int], side: int) -> None:
    middle = size[0] // 2, size[1] // 2
    box = middle[0] - 9, middle[1] - 7, middle[0] + 5, middle[1] + 8
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_rescale=False,
        do_normalize=False,
    )
    pixels = np.asarray(processor(scene(size, box), return_tensors="np")["pixel_values"])[0, 0]
    placement = place("crop", size, side)
    assert pixels.shape == placement.canvas[::-1]
    expected = placement.forward((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    assert white_centre(pixels) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("size", "side"), product(IMAGES, [32, 33, 48, 100]))
def test_pad_moves_pixels_as_the_llava_processor_does(size: tuple[int, int], side: int) -> None:
    box = 3, 5, size[0] - 11, size[1] - 9
    square = LlavaImageProcessorPil().pad_to_square(np.asarray(scene(size, box)).transpose(2, 0, 1))
    padded = Image.fromarray(square.transpose(1, 2, 0))
    pixels = np.asarray(padded.resize((side, side), Image.Resampling.BICUBIC))[:, :, 0]
    expected = place("pad", size, side).forward((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    assert white_centre(pixels) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("size", IMAGES)
def test_squash_moves_pixels_as_pillow_does(size: tuple[int, int]) -> None:
    box = 3, 5, size[0] - 11, size[1] - 9
    pixels = np.asarray(scene(size, box).resize((40, 40), Image.Resampling.BICUBIC))[:, :, 0]
    expected = place("squash", size, 40).forward((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    assert white_centre(pixels) == pytest.approx(expected, abs=0.1)


@given(boxes(), boxes())
def test_iou_agrees_with_pycocotools(a: Box, b: Box) -> None:
    def xywh(box: Box) -> list[float]:
        return [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]

    theirs = mask.iou([xywh(a)], [xywh(b)], [0])[0, 0]
    assert iou(a, b) == pytest.approx(theirs, abs=1e-9)


def test_a_flip_by_hand() -> None:
    placement = flip((60, 40))
    assert placement.move_box(Box(x1=0, y1=3, x2=10, y2=7, image=1)) == Box(x1=50, y1=3, x2=60, y2=7, image=1)
    assert placement.move_point(Point(x=5, y=4, image=1)) == Point(x=55, y=4, image=1)


@given(placements(), boxes())
def test_moved_boxes_have_the_moved_corners(placement: Placement, box: Box) -> None:
    moved = placement.move_box(box)  # a Box whose corners were the wrong way round could not be made
    corners = [placement.forward(x, y) for x in (box.x1, box.x2) for y in (box.y1, box.y2)]
    assert {(moved.x1, moved.y1), (moved.x2, moved.y2)} <= set(corners)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_at_most_one(a: Box, b: Box) -> None:
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1
    assert iou(a, a) == 1


def test_iou_by_hand() -> None:
    a = Box(x1=0, y1=0, x2=10, y2=10)
    assert iou(a, Box(x1=5, y1=0, x2=15, y2=10)) == pytest.approx(1 / 3)
    assert iou(a, Box(x1=2, y1=2, x2=7, y2=6)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "other",
    [
        Box(x1=10, y1=0, x2=20, y2=10),
        Box(x1=0, y1=10, x2=10, y2=20),
        Box(x1=10, y1=10, x2=20, y2=20),
        Box(x1=11, y1=0, x2=20, y2=10),
        Box(x1=5, y1=5, x2=5, y2=5),
    ],
    ids=["right", "below", "corner", "apart", "no area"],
)
def test_iou_is_zero_without_a_common_area(other: Box) -> None:
    assert iou(Box(x1=0, y1=0, x2=10, y2=10), other) == 0


def test_iou_of_boxes_without_area_is_zero() -> None:
    dot = Box(x1=5, y1=5, x2=5, y2=5)
    assert iou(dot, dot) == 0
    speck = Box(x1=0, y1=0, x2=1e-200, y2=1e-200)  # its area is 0 in float64
    assert iou(speck, speck) == 0


@pytest.mark.parametrize(("kind", "size"), [("pad", (1, 30_000)), ("crop", (1, 5_000))])
def test_place_refuses_a_canvas_beyond_memory(kind: PlacementKind, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="expected a canvas of at most 400,000,000 pixels"):
        place(kind, size, 1024)


def test_iou_refuses_boxes_on_different_images() -> None:
    with pytest.raises(ValueError, match="boxes lie on images 0 and 1"):
        iou(Box(x1=0, y1=0, x2=1, y2=1), Box(x1=0, y1=0, x2=1, y2=1, image=1))
