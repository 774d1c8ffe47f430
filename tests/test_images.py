from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mllm import images
from mllm.errors import DataError
from mllm.images import FileImage, ImageRef, MemoryImage, image_ref


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def photo(noise: Image.Image, tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    noise.save(path)
    return str(path)


def test_a_file_opens_as_rgb(photo: str, noise: Image.Image) -> None:
    assert FileImage(photo).open().tobytes() == noise.tobytes()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_opens_as_rgb(mode: str, noise: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    noise.convert("L").convert(mode).save(path)
    assert FileImage(str(path)).open().mode == "RGB"
    assert MemoryImage(Image.new(mode, (3, 4))).open().mode == "RGB"


def test_size_is_read_without_decoding(photo: str) -> None:
    Path(photo).write_bytes(Path(photo).read_bytes()[:200])  # the header, and hardly a row
    assert FileImage(photo).size == (60, 40)
    with pytest.raises(DataError, match=r"photo\.png: cannot be decoded: "):
        FileImage(photo).open()


def test_size_of_a_picture_in_memory() -> None:
    assert MemoryImage(Image.new("RGB", (7, 5))).size == (7, 5)


@pytest.mark.parametrize("read", [lambda image: image.size, lambda image: image.open()], ids=["size", "open"])
class TestUnreadable:
    def test_missing(self, read: object, tmp_path: Path) -> None:
        path = tmp_path / "none.jpg"
        with pytest.raises(DataError) as caught:
            read(FileImage(str(path)))  # pyright: ignore[reportCallIssue]
        assert str(caught.value) == f"{path}: no such picture"

    def test_no_picture(self, read: object, tmp_path: Path) -> None:
        path = tmp_path / "notes.jpg"
        path.write_text("not a picture")
        with pytest.raises(DataError, match=r"notes\.jpg: not a readable picture: "):
            read(FileImage(str(path)))  # pyright: ignore[reportCallIssue]

    def test_a_folder(self, read: object, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="not a readable picture: "):
            read(FileImage(str(tmp_path)))  # pyright: ignore[reportCallIssue]

    def test_too_large(self, read: object, photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(images, "MAX_PIXELS", 2399)
        with pytest.raises(DataError, match=r"photo\.png: 60 x 40 is more than 2399 pixels"):
            read(FileImage(photo))  # pyright: ignore[reportCallIssue]

    def test_a_decompression_bomb(self, read: object, photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses above twice as many
        with pytest.raises(DataError, match=r"photo\.png: not a readable picture: .*decompression bomb"):
            read(FileImage(photo))  # pyright: ignore[reportCallIssue]


def test_the_limit_itself_is_allowed(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 2400)
    assert FileImage(photo).size == (60, 40)


def test_references_to_one_file_are_one_picture() -> None:
    assert FileImage("a.jpg") == FileImage("a.jpg")
    assert len({FileImage("a.jpg"), FileImage("a.jpg"), FileImage("b.jpg")}) == 2


def test_image_ref(noise: Image.Image) -> None:
    assert image_ref("a.jpg") == FileImage("a.jpg")
    assert image_ref("a.jpg", "photos") == FileImage("photos/a.jpg")
    assert image_ref(Path("a.jpg"), "photos") == FileImage("photos/a.jpg")
    assert image_ref("/data/a.jpg", "photos") == FileImage("/data/a.jpg")
    in_memory = image_ref(noise)
    assert isinstance(in_memory, MemoryImage)
    assert image_ref(in_memory) is in_memory


def test_image_ref_takes_any_reference() -> None:
    class Black:
        size = (2, 3)

        def open(self) -> Image.Image:
            return Image.new("RGB", self.size)

    black = Black()
    assert isinstance(black, ImageRef)
    assert image_ref(black) is black


@pytest.mark.parametrize("url", ["http://x.org/a.jpg", "https://x.org/a.jpg", "s3://bucket/a.jpg"])
def test_image_ref_refuses_remote_pictures(url: str) -> None:
    with pytest.raises(DataError, match="remote pictures are not supported, give a local path"):
        image_ref(url, "photos")


@pytest.mark.parametrize(("source", "kind"), [(None, "NoneType"), (3, "int"), (b"a.jpg", "bytes")])
def test_image_ref_refuses_other_types(source: object, kind: str) -> None:
    with pytest.raises(DataError, match=f"expected a path or a PIL image, found {kind}"):
        image_ref(source)
