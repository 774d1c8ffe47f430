from __future__ import annotations

import pickle

import numpy as np
import pytest

from mllm.dataset.synthetic.shapes import COLOURS, KINDS, MOST_SHAPES, SIZES, SMALLEST_IMAGE, SceneImage, scene
from mllm.images import is_ref

SIDES = (SMALLEST_IMAGE, 48, 64, 100, 224)


@pytest.mark.parametrize("side", SIDES)
def test_boxes_are_tight_around_the_pixels(side: int) -> None:
    for index in range(60):
        image = SceneImage(0, index, side, (1, 5))
        background, shapes = scene(image)
        pixels = np.asarray(image.open())
        assert pixels.shape == (side, side, 3)
        left_over = pixels.copy()
        for shape in shapes:
            x1, y1, x2, y2 = shape.box.xyxy
            rows, columns = np.nonzero((pixels[y1:y2, x1:x2] == COLOURS[shape.colour]).all(-1))
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (0, 0, x2 - x1, y2 - y1)
            left_over[y1:y2, x1:x2] = background
        assert (left_over == background).all()


@pytest.mark.parametrize("side", SIDES)
def test_shapes_keep_apart_and_differ(side: int) -> None:
    for index in range(100):
        _, shapes = scene(SceneImage(1, index, side, (2, MOST_SHAPES)))
        assert 2 <= len(shapes) <= MOST_SHAPES
        assert len({(shape.size, shape.colour, shape.kind) for shape in shapes}) == len(shapes)
        for a in shapes:
            assert a.x >= 0
            assert a.x + a.side <= side
            for b in shapes:
                gap_x = max(a.x, b.x) - min(a.x + a.side, b.x + b.side)
                gap_y = max(a.y, b.y) - min(a.y + a.side, b.y + b.side)
                assert a is b or max(gap_x, gap_y) >= 1


def test_the_number_of_shapes_is_that_asked_for() -> None:
    for count in range(1, MOST_SHAPES + 1):
        for index in range(20):
            assert len(scene(SceneImage(2, index, SMALLEST_IMAGE, (count, count)))[1]) == count


def test_everything_occurs() -> None:
    shapes = [shape for index in range(300) for shape in scene(SceneImage(3, index, 64, (2, 5)))[1]]
    assert {shape.kind for shape in shapes} == set(KINDS)
    assert {shape.colour for shape in shapes} == set(COLOURS)
    assert {shape.size for shape in shapes} == set(SIZES)


def test_sizes_can_be_told_apart() -> None:
    sides: dict[str, set[int]] = {name: set() for name in SIZES}
    for index in range(300):
        for shape in scene(SceneImage(4, index, SMALLEST_IMAGE, (2, 5)))[1]:
            sides[shape.size].add(shape.side)
    assert max(sides["small"]) < min(sides["medium"])
    assert max(sides["medium"]) < min(sides["large"])


def test_a_reference_is_all_there_is_to_an_image() -> None:
    image = SceneImage(5, 6, 48, (2, 5))
    copy = pickle.loads(pickle.dumps(image))  # noqa: S301
    assert is_ref(image)
    assert image.size == (48, 48)
    assert (copy, hash(copy)) == (image, hash(image))
    assert copy.open().tobytes() == image.open().tobytes()
    assert image.open().tobytes() != SceneImage(5, 7, 48, (2, 5)).open().tobytes()
