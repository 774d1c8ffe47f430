from __future__ import annotations

import base64
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from mllm.errors import DataError, ImageError
from mllm.images import FileImage, ImageRef, MemoryImage, UrlImage, Video, image_ref, is_reducible, is_ref
from mllm.images.embedded import Base64Image, MemberImage
from mllm.images.image_transforms import FlippedImage
from mllm.images.settings import ImageSettings, configure


def test_a_file_opens_as_rgb(photo: str, noise: Image.Image) -> None:
    assert FileImage(photo).open().tobytes() == noise.tobytes()


def test_size_is_read_without_decoding(photo: str) -> None:
    Path(photo).write_bytes(Path(photo).read_bytes()[:200])  # the header, and hardly a row
    assert FileImage(photo).size == (60, 40)
    with pytest.raises(ImageError, match=r"photo\.png: cannot be decoded: "):
        FileImage(photo).open()


def test_who_opened_a_file_knows_its_size(photo: str) -> None:
    assert FileImage(photo).open().size == (60, 40)
    Path(photo).unlink()
    assert FileImage(photo).size == (60, 40)


@pytest.mark.parametrize("kind", ["file", "zip", "bytes", "base64"])
def test_an_image_file_opens_at_a_part_of_its_size(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (101, 60), "red").save(path)
    data = path.read_bytes()
    (tmp_path / "text").write_bytes(base64.b64encode(data))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(path, path.name)
    refs: dict[str, ImageRef] = {
        "file": FileImage(str(path)),
        "zip": UrlImage(f"zip://photo.jpg::{tmp_path}/photos.zip"),
        "bytes": MemberImage(str(path), 0, len(data), "photo"),
        "base64": Base64Image(str(tmp_path / "text"), 0, len(base64.b64encode(data)), "photo"),
    }
    ref = refs[kind]
    assert is_reducible(ref)
    assert ref.open_reduced((50, 30)).size == (51, 30)
    assert ref.size == ref.open().size == (101, 60)


def test_what_is_made_of_others_is_opened_whole(photo: str) -> None:
    assert not is_reducible(FlippedImage(FileImage(photo)))


def test_size_of_an_image_in_memory() -> None:
    assert MemoryImage(Image.new("RGB", (7, 5))).size == (7, 5)


@pytest.mark.parametrize("read", [lambda image: image.size, lambda image: image.open()], ids=["size", "open"])
class TestUnreadable:
    def test_missing(self, read: object, tmp_path: Path) -> None:
        path = tmp_path / "none.jpg"
        with pytest.raises(ImageError) as caught:
            read(FileImage(str(path)))  # pyright: ignore[reportCallIssue]
        assert str(caught.value) == f"{path}: no such image"

    def test_an_archive_as_a_folder(self, read: object, tmp_path: Path) -> None:
        (tmp_path / "photos.zip").write_bytes(b"PK")
        with pytest.raises(ImageError, match=r"a\.jpg: no such image, .* zip://a\.jpg::photos\.zip"):
            read(FileImage(str(tmp_path / "photos.zip" / "a.jpg")))  # pyright: ignore[reportCallIssue]

    def test_no_image(self, read: object, tmp_path: Path) -> None:
        path = tmp_path / "notes.jpg"
        path.write_text("<html>404 Not Found</html>")
        expected = r"notes\.jpg: expected an image, one of JPEG, PNG, .*, found b'<html>404 Not Found</htm'"
        with pytest.raises(ImageError, match=expected):
            read(FileImage(str(path)))  # pyright: ignore[reportCallIssue]

    def test_an_impossible_name(self, read: object) -> None:
        with pytest.raises(ImageError, match="not a readable image: embedded null byte"):
            read(FileImage("a\0b.jpg"))  # pyright: ignore[reportCallIssue]

    def test_too_large(self, read: object, photo: str) -> None:
        configure(ImageSettings(max_pixels=2399))
        with pytest.raises(
            ImageError, match=r"photo\.png: expected at most 2,399 pixels \(images\.max_pixels\), found 60 x 40"
        ):
            read(FileImage(photo))  # pyright: ignore[reportCallIssue]

    def test_a_decompression_bomb(self, read: object, photo: str) -> None:
        configure(ImageSettings(max_pixels=1000))  # above twice as many Pillow itself refuses
        with pytest.raises(
            ImageError, match=r"photo\.png: expected at most 1,000 pixels \(images\.max_pixels\), found more"
        ):
            read(FileImage(photo))  # pyright: ignore[reportCallIssue]


def test_the_limit_itself_is_allowed(photo: str) -> None:
    configure(ImageSettings(max_pixels=2400))
    assert FileImage(photo).size == (60, 40)


def test_the_limit_may_be_above_pillows(tmp_path: Path) -> None:
    path = str(tmp_path / "large.png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    Path(path).write_bytes(start + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    configure(ImageSettings())
    with pytest.raises(ImageError, match="at most 100,000,000 pixels"):
        FileImage(path).size  # noqa: B018
    configure(ImageSettings(max_pixels=200_000_000))
    assert FileImage(path).size == (20_000, 10_000)


def test_references_to_one_file_are_one_image() -> None:
    assert FileImage("a.jpg") == FileImage("a.jpg")
    assert len({FileImage("a.jpg"), FileImage("a.jpg"), FileImage("b.jpg")}) == 2
    assert len({UrlImage("s3://b/a.jpg"), UrlImage("s3://b/a.jpg")}) == 1


@pytest.mark.parametrize(
    ("source", "folder", "expected"),
    [
        ("a.jpg", None, FileImage("a.jpg")),
        ("../a.jpg", None, FileImage("../a.jpg")),
        ("a.jpg", "photos", FileImage("photos/a.jpg")),
        (Path("a.jpg"), "photos", FileImage("photos/a.jpg")),
        ("b/../a.jpg", "photos", FileImage("photos/b/../a.jpg")),
        ("/data/a.jpg", "photos", FileImage("/data/a.jpg")),
        ("https://x.org/a.jpg", "photos", UrlImage("https://x.org/a.jpg")),
        ("s3://bucket/a.jpg", None, UrlImage("s3://bucket/a.jpg")),
        ("petrel://bucket/a.jpg", None, UrlImage("petrel://bucket/a.jpg")),
        ("zz1424:s3://bucket/a.jpg", None, UrlImage("zz1424:s3://bucket/a.jpg")),
        ("b/a.jpg", "s3://bucket/photos/", UrlImage("s3://bucket/photos/b/a.jpg")),
        ("a.jpg", "zz1424:s3://bucket", UrlImage("zz1424:s3://bucket/a.jpg")),
        ("zip://a.jpg::photos.zip", "data", UrlImage("zip://a.jpg::data/photos.zip")),
        ("tar://b/a.jpg::/d/photos.tar", "data", UrlImage("tar://b/a.jpg::/d/photos.tar")),
        ("zip://a.jpg::photos.zip", "s3://bucket", UrlImage("zip://a.jpg::s3://bucket/photos.zip")),
        ("zip://a.jpg::s3://bucket/photos.zip", "data", UrlImage("zip://a.jpg::s3://bucket/photos.zip")),
        ("b/a.jpg", "zip://photos::data/photos.zip", UrlImage("zip://photos/b/a.jpg::data/photos.zip")),
        ("a.jpg", "tar://::data/photos.tar", UrlImage("tar://a.jpg::data/photos.tar")),
    ],
)
def test_image_ref(source: object, folder: str | None, expected: ImageRef) -> None:
    assert image_ref(source, folder) == expected


def test_image_ref_of_an_image_in_memory(noise: Image.Image) -> None:
    in_memory = image_ref(noise)
    assert isinstance(in_memory, MemoryImage)
    assert image_ref(in_memory) is in_memory


def test_image_ref_takes_any_reference() -> None:
    class Black:
        size = (2, 3)

        def open(self) -> Image.Image:
            return Image.new("RGB", self.size)

    black = Black()
    assert is_ref(black)
    assert image_ref(black) is black


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("../a.jpg", "photos"),
        ("b/../../a.jpg", "photos"),
        ("..", "photos"),
        ("zip://a.jpg::../photos.zip", "data"),
        ("../a.jpg", "s3://bucket/photos"),
        ("/etc/a.jpg", "s3://bucket/photos"),
        ("zip://a.jpg::/etc/photos.zip", "s3://bucket"),
        ("../a.jpg", "zip://photos::photos.zip"),
    ],
)
def test_image_ref_refuses_to_leave_the_folder(source: str, folder: str) -> None:
    with pytest.raises(DataError, match=r"leaves its image_folder|expected a path relative to image_folder") as caught:
        image_ref(source, folder)
    assert not isinstance(caught.value, ImageError), "a fault of the line, which is never skipped"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/a.jpg",
        "FILE:///etc/a.jpg",
        "local://a.jpg",
        "zip://a.jpg",
        "zip://a.jpg::file:///etc/a.zip",
        "simplecache::s3://bucket/a.jpg",
        "dir://a.jpg::file:///etc",
        "reference://a.jpg::s3://bucket/index.json",
    ],
)
def test_image_ref_refuses_other_protocols(url: str) -> None:
    with pytest.raises(
        DataError,
        match=r": expected a protocol among http, .*, found \w+://; data_args\.images\.protocols allows others",
    ):
        image_ref(url, "photos")


def test_other_protocols_may_be_allowed(photo: str, noise: Image.Image) -> None:
    configure(ImageSettings(protocols=("file",)))
    assert image_ref(f"file://{photo}").open().tobytes() == noise.tobytes()
    with pytest.raises(DataError, match="found https://; data_args"):
        image_ref("https://x.org/a.jpg")


def test_image_ref_refuses_an_archive_within_an_archive() -> None:
    with pytest.raises(DataError, match="an archive inside the archive"):
        image_ref("zip://a.jpg::b.zip", "zip://::photos.zip")


@pytest.mark.parametrize(("source", "kind"), [(None, "nothing"), (3, "int"), (b"a.jpg", "bytes")])
def test_image_ref_refuses_other_types(source: object, kind: str) -> None:
    with pytest.raises(DataError, match=f"expected a path, a URL or a PIL image, found {kind}"):
        image_ref(source)


def test_a_list_is_a_video(tmp_path: Path) -> None:
    for name, size in (("a.png", (8, 6)), ("b.png", (4, 4))):
        Image.new("RGB", size).save(tmp_path / name)
    video = image_ref(["a.png", "b.png"], str(tmp_path))
    assert isinstance(video, Video)
    assert video == image_ref(["a.png", "b.png"], str(tmp_path))
    assert (video.size, video.open().size, len(video.frames)) == ((8, 6), (8, 6), 2)
    with pytest.raises(DataError, match="expected the frames of a video, found an empty list"):
        image_ref([])
