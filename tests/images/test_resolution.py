"""Images that go with bounds on what a model sees of them."""

from __future__ import annotations

import pytest
from PIL import Image

from mllm.errors import ConfigError
from mllm.images import FileImage, MemoryImage, UrlImage, Video, VideoFrame, is_remote
from mllm.images.image_transforms import FlippedImage
from mllm.images.names import name_of
from mllm.images.resolution import BoundedImage, Resolution, bound_image, resolution_of

LOW, HIGH = Resolution(max_pixels=100), Resolution(max_pixels=900)


def test_bounded_is_another_image_in_another_resolution() -> None:
    ref = FileImage("a.png")
    assert bound_image(ref, LOW) == bound_image(ref, LOW) != bound_image(ref, HIGH)
    assert bound_image(ref, LOW) != ref
    assert name_of(bound_image(ref, LOW)) == "a.png"


def test_bounded_keeps_the_bounds_that_an_image_has() -> None:
    inner = bound_image(FileImage("a.png"), LOW)
    assert bound_image(inner, HIGH) is inner
    assert bound_image(FlippedImage(inner), HIGH) == FlippedImage(inner)


def test_resolution_of_an_image_that_was_changed_since() -> None:
    inner = bound_image(FileImage("a.png"), LOW)
    assert resolution_of(FlippedImage(inner)) == LOW
    assert resolution_of(FlippedImage(FileImage("a.png"))) is None


def test_bounded_bounds_each_frame_of_a_video() -> None:
    video = bound_image(Video((FileImage("a.png"), FileImage("b.png"))), LOW)
    assert video == Video((BoundedImage(FileImage("a.png"), LOW), BoundedImage(FileImage("b.png"), LOW)))
    assert resolution_of(video) == LOW
    frame = VideoFrame(ref=FileImage("a.png"), time=1.5)
    assert bound_image(frame, LOW) == VideoFrame(ref=BoundedImage(FileImage("a.png"), LOW), time=1.5)


def test_a_bounded_image_opens_as_it_is() -> None:
    ref = bound_image(MemoryImage(Image.new("RGB", (40, 30))), LOW)
    assert ref.size == ref.open().size == (40, 30)
    assert is_remote(bound_image(UrlImage("https://a/b.png"), LOW))
    assert not is_remote(ref)


def test_resolution_needs_bounds_that_leave_room() -> None:
    with pytest.raises(
        ConfigError, match="expected one of min_pixels, max_pixels, max_tokens, max_tiles, longest_edge"
    ):
        Resolution()
    with pytest.raises(ConfigError, match="min_pixels: expected at most max_pixels, 5, found 9"):
        Resolution(min_pixels=9, max_pixels=5)
