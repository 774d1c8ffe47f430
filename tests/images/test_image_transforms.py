from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from mllm.images import FileImage, ImageRef, MemoryImage, is_ref
from mllm.images.image_transforms import FlippedImage, PlacedImage


def test_a_flipped_image_is_its_mirror(photo: str, noise: Image.Image) -> None:
    flipped = FlippedImage(FileImage(photo))
    assert flipped.size == (60, 40)
    assert np.array_equal(np.asarray(flipped.open()), np.asarray(noise)[:, ::-1])


def placed(photo: str, left: int = 5) -> PlacedImage:
    return PlacedImage(ref=FileImage(photo), extent=(60, 40), canvas=(70, 50), offset=(left, -3), colour=(255, 0, 9))


def test_a_placed_image_lies_at_its_offset(photo: str, noise: Image.Image) -> None:
    pixels = np.asarray(placed(photo).open())
    assert placed(photo).size == (70, 50)
    assert pixels.shape == (50, 70, 3)
    assert np.array_equal(pixels[:37, 5:65], np.asarray(noise)[3:])
    pixels = pixels.copy()
    pixels[:37, 5:65] = (255, 0, 9)
    assert (pixels == (255, 0, 9)).all()


def test_a_placed_image_may_be_scaled() -> None:
    grey = MemoryImage(Image.new("RGB", (60, 40), (50, 50, 50)))
    image = PlacedImage(ref=grey, extent=(30, 10), canvas=(60, 40), offset=(2, 4), colour=(0, 0, 0)).open()
    assert image.getbbox() == (2, 4, 32, 14)


@pytest.mark.parametrize("make", [placed, lambda photo: FlippedImage(placed(photo))])
def test_equal_references_are_one_image(make: object, photo: str) -> None:
    ref: ImageRef = make(photo)  # pyright: ignore[reportCallIssue]
    assert is_ref(ref)
    assert len({ref, make(photo), pickle.loads(pickle.dumps(ref))}) == 1  # noqa: S301  # pyright: ignore[reportCallIssue]
    assert placed(photo) != placed(photo, 6) != FileImage(photo)
