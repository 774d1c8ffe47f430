"""Real files, written by Pillow, of every kind that datasets hold."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageDraw, ImageFile, ImageOps

from mllm.errors import ImageError
from mllm.images import MemoryImage
from mllm.images.decode import decode, size_of
from mllm.images.settings import ImageSettings, configure

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Pillow's, of the broken files made here
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
DEFAULT = ImageSettings()
RED, BLUE = (250, 10, 10), (10, 10, 250)
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how a camera that was held so stores an upright scene."""


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(data: bytes, settings: ImageSettings = DEFAULT) -> Image.Image:
    return decode(io.BytesIO(data), "a.jpg", settings)


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def close(found: tuple[int, ...], expected: tuple[int, ...], by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(found, expected, strict=True))


def stored_as(scene: Image.Image, orientation: int, kind: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turned = scene.transpose(UNDO[orientation]) if orientation in UNDO else scene
    return saved(turned, kind, exif=exif, **options)


class TestOrientation:
    @given(
        orientation=st.integers(1, 8),
        kind=st.sampled_from([("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]),
        size=st.tuples(st.integers(32, 96), st.integers(32, 96)),
        corners=st.tuples(*[st.floats(0, 0.6)] * 2),
    )
    def test_a_painted_box_is_where_the_annotation_says(
        self,
        orientation: int,
        kind: tuple[str, dict[str, Any]],
        size: tuple[int, int],
        corners: tuple[float, float],
    ) -> None:
        x1, y1 = (int(corner * side) for corner, side in zip(corners, size, strict=True))
        x2, y2 = x1 + size[0] // 4, y1 + size[1] // 3
        scene = Image.new("RGB", size, BLUE)
        ImageDraw.Draw(scene).rectangle((x1, y1, x2 - 1, y2 - 1), fill=RED)
        data = stored_as(scene, orientation, kind[0], **kind[1])
        found = opened(data)
        assert found.size == size_of(io.BytesIO(data), "a.jpg", DEFAULT) == size
        red = np.asarray(found)[:, :, 0] > 128
        assert red[y1:y2, x1:x2].mean() > 0.9, "the box of the annotation is red"
        red[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False  # JPEG blurs its edge
        assert not red.any(), "and nothing else is"

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_as_pillow_does_it(self, orientation: int, kind: str, noise: Image.Image) -> None:
        data = stored_as(noise, orientation, kind)
        assert opened(data).tobytes() == ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB").tobytes()

    def test_of_images_in_memory(self, noise: Image.Image) -> None:
        ref = MemoryImage(Image.open(io.BytesIO(stored_as(noise, 6, "PNG"))))
        assert ref.size == ref.open().size == (60, 40)
        assert ref.open().tobytes() == noise.tobytes()
        again = MemoryImage(ref.open())
        assert again.open().tobytes() == noise.tobytes(), "turned once"

    def test_stored_pixels_where_asked(self, noise: Image.Image) -> None:
        data = stored_as(noise, 6, "PNG")
        stored = ImageSettings(exif=False)
        assert opened(data, stored).size == size_of(io.BytesIO(data), "a.png", stored) == (40, 60)

    @pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
    def test_an_unreadable_tag_turns_nothing(self, exif: bytes, noise: Image.Image) -> None:
        data = saved(noise, "JPEG", exif=exif)
        assert opened(data).size == size_of(io.BytesIO(data), "a.jpg", DEFAULT) == (60, 40)

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_an_unknown_value_turns_nothing(self, value: int, noise: Image.Image) -> None:
        assert opened(stored_as(noise, value, "JPEG")).size == (60, 40)


class TestModes:
    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk(self, kind: str) -> None:
        ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow are red
        assert close(pixel(opened(saved(ink, kind))), (255, 0, 0), by=20)

    def test_palette(self) -> None:
        scene = Image.new("RGB", (8, 8), RED)
        scene.paste(BLUE, (4, 0, 8, 8))
        for kind in ("PNG", "GIF", "BMP"):
            found = opened(saved(scene.quantize(8), kind))
            assert close(pixel(found, 0), RED)
            assert close(pixel(found, 7), BLUE)

    @pytest.mark.parametrize("kind", ["PNG", "GIF"])
    def test_palette_with_a_transparent_colour(self, kind: str) -> None:
        scene = Image.new("P", (8, 8), 0)
        scene.putpalette([*RED, *BLUE])
        scene.paste(1, (4, 0, 8, 8))
        found = opened(saved(scene, kind, transparency=0), ImageSettings(background=(1, 200, 3)))
        assert pixel(found, 0) == (1, 200, 3)
        assert pixel(found, 7) == BLUE

    def test_alpha_lies_over_the_background(self) -> None:
        scene = Image.new("RGBA", (8, 8), (*RED, 0))  # red that nobody sees
        scene.paste((*BLUE, 255), (4, 0, 8, 8))
        found = opened(saved(scene, "PNG"))
        assert (pixel(found, 0), pixel(found, 7)) == ((255, 255, 255), BLUE)
        black = opened(saved(scene, "PNG"), ImageSettings(background=(0, 0, 0)))
        assert pixel(black, 0) == (0, 0, 0)

    def test_half_transparent(self) -> None:
        half = opened(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "WEBP", lossless=True))
        assert close(pixel(half), (127, 127, 127), by=1)

    def test_grey_with_alpha(self) -> None:
        assert pixel(opened(saved(Image.new("LA", (8, 8), (0, 0)), "PNG"))) == (255, 255, 255)

    def test_rgb_with_a_transparent_colour(self) -> None:
        scene = Image.new("RGB", (8, 8), RED)
        scene.paste(BLUE, (4, 0, 8, 8))
        found = opened(saved(scene, "PNG", transparency=RED))
        assert (pixel(found, 0), pixel(found, 7)) == ((255, 255, 255), BLUE)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_16_bits_of_grey_are_scaled(self, kind: str) -> None:
        ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(8, 0)
        found = np.asarray(opened(saved(Image.fromarray(ramp), kind)))
        assert (found[0, :, 0] == np.arange(256)).all()
        assert (found[:, :, 0] == found[:, :, 2]).all()

    def test_16_bits_of_grey_with_a_transparent_one(self) -> None:
        grey = np.full((8, 8), 0x8000, np.uint16)
        grey[:, 4:] = 0x8001  # the upper byte is the same, the colour is not
        found = opened(saved(Image.fromarray(grey), "PNG", transparency=0x8001))
        assert (pixel(found, 0), pixel(found, 7)) == ((128,) * 3, (255,) * 3)

    def test_16_bits_of_colour_are_scaled(self) -> None:
        """Pillow writes none: the header and one row by hand. Source: PNG (third edition), sections 5, 9 and 11."""

        def chunk(name: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

        row = b"\0" + struct.pack(">6H", 65535, 32768, 0, 256, 255, 65535)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
        data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
        found = opened(data)
        assert (pixel(found, 0), pixel(found, 1)) == ((255, 128, 0), (1, 0, 255))

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_32_bits_have_no_white(self, mode: str) -> None:
        image = Image.new(mode, (8, 8), 1)
        said = (
            rf"expected 8 or 16 bits per pixel, found mode {mode}, 32 bits per pixel, which have no defined white level"
        )
        for look in (decode, size_of):  # the header says it, and `data check` reads no more
            with pytest.raises(ImageError, match=rf"a\.tif: {said}"):
                look(io.BytesIO(saved(image, "TIFF")), "a.tif", DEFAULT)
        with pytest.raises(ImageError, match=said):
            _ = MemoryImage(image).size

    def test_one_bit(self) -> None:
        scene = Image.new("1", (8, 8), 0)
        scene.paste(1, (4, 0, 8, 8))
        found = opened(saved(scene, "PNG"))
        assert (pixel(found, 0), pixel(found, 7)) == ((0, 0, 0), (255, 255, 255))

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
    def test_in_memory_too(self, mode: str) -> None:
        assert MemoryImage(Image.new(mode, (3, 4))).open().mode == "RGB"

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_the_first_frame_of_many(self, kind: str) -> None:
        frames = [Image.new("RGB", (8, 6), colour) for colour in (RED, BLUE, RED)]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert close(pixel(opened(data)), RED)
        assert opened(data).size == (8, 6)


class TestReduced:
    @pytest.mark.parametrize(
        ("at_least", "expected"),
        [
            ((427, 640), (427, 640)),
            ((214, 321), (427, 640)),
            ((213, 320), (214, 320)),
            ((100, 160), (107, 160)),
            ((1, 1), (54, 80)),
        ],
    )
    def test_no_smaller_than_asked(self, at_least: tuple[int, int], expected: tuple[int, int]) -> None:
        data = io.BytesIO(saved(Image.new("RGB", (427, 640), RED), "JPEG"))
        image = decode(data, "a.jpg", DEFAULT, at_least=at_least)
        assert image.size == expected
        assert close(pixel(image, *(side - 1 for side in expected)), RED)

    @pytest.mark.parametrize(
        "data", [stored_as(Image.new("RGB", (64, 48)), 6, "JPEG"), saved(Image.new("RGB", (64, 48)), "PNG")]
    )
    def test_others_are_whole(self, data: bytes) -> None:
        assert decode(io.BytesIO(data), "a.jpg", DEFAULT, at_least=(8, 6)).size == (64, 48)

    def test_a_file_cut_off_is_no_image(self) -> None:
        data = saved(Image.effect_noise((256, 256), 50), "JPEG")
        with pytest.raises(ImageError, match=r"a\.jpg: cannot be decoded"):
            decode(io.BytesIO(data[: len(data) // 2]), "a.jpg", DEFAULT, at_least=(32, 32))


class TestBroken:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
    @pytest.mark.parametrize("share", [0.5, 0.9])
    def test_a_file_cut_off_is_no_image(
        self, kind: str, share: float, noise: Image.Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as other libraries leave it
        data = saved(noise, kind)
        with pytest.raises(ImageError, match=r"^a\.jpg: (cannot be decoded|not a readable image|expected an image)"):
            opened(data[: int(len(data) * share)])

    @given(seed=st.integers(0, 2**32), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO"]))
    def test_garbage_is_an_image_error_or_an_image(self, seed: int, kind: str) -> None:
        rng = np.random.default_rng(seed)
        data = bytearray(saved(Image.new("RGB", (24, 20), RED), kind))
        for position in rng.integers(0, len(data), 8):
            data[position] = rng.integers(0, 256)
        try:
            found = decode(io.BytesIO(bytes(data)), "a.jpg", ImageSettings(max_pixels=10_000))
        except ImageError:
            return
        assert found.mode == "RGB"

    def test_programs_are_not_run(self) -> None:
        """EPS would start Ghostscript."""
        with pytest.raises(ImageError, match=r"expected an image, .*found b'%!PS-Adobe"):
            opened(saved(Image.new("RGB", (8, 8)), "EPS"))

    def test_a_small_file_that_unpacks_to_much(self) -> None:
        configure(ImageSettings(max_pixels=1_000_000))
        bomb = saved(Image.new("1", (1100, 1000)), "PNG")
        assert len(bomb) < 1000
        with pytest.raises(ImageError, match=r"at most 1,000,000 pixels .*, found 1100 x 1000"):
            opened(bomb, ImageSettings(max_pixels=1_000_000))
