"""What a file from a stranger may try: to lead out of its folder, to be waited for, to take all memory."""

from __future__ import annotations

import base64
import io
import os
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mllm.errors import DataError, ImageError
from mllm.images import FileImage, ImageRef, UrlImage, image_ref
from mllm.images.embedded import Base64Image, MemberImage
from mllm.images.settings import ImageSettings, configure

Look = Callable[[ImageRef], Any]


@pytest.fixture(params=["size", "open", "reduced"])
def look(request: pytest.FixtureRequest) -> Look:
    ways: dict[str, Look] = {
        "size": lambda ref: ref.size,
        "open": lambda ref: ref.open(),
        "reduced": lambda ref: ref.open_reduced((1, 1)),  # pyright: ignore[reportAttributeAccessIssue]
    }
    return ways[request.param]


# links


@pytest.fixture
def folder(tmp_path: Path, png: bytes) -> Path:
    """An image folder, beside one of other files."""
    for name in ("photos", "secret"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(png)
        with zipfile.ZipFile(tmp_path / name / "a.zip", "w") as archive:
            archive.writestr("a.png", png)
    return tmp_path / "photos"


OUTSIDE = {
    "file": "a-link.png",
    "folder": "a-folder/a.png",
    "chain": "first.png",
    "absolute": "absolute.png",
    "back": "deep/../a.png",
    "archive": "zip://a.png::a-link.zip",
}


def link_outside(folder: Path) -> None:
    (folder / "a-link.png").symlink_to("../secret/a.png")
    (folder / "a-folder").symlink_to("../secret")
    (folder / "first.png").symlink_to("second.png")
    (folder / "second.png").symlink_to("../secret/a.png")
    (folder / "absolute.png").symlink_to(folder.parent / "secret" / "a.png")
    (folder / "deep").symlink_to("../secret/inner")
    (folder / "a-link.zip").symlink_to("../secret/a.zip")


@pytest.mark.parametrize("source", OUTSIDE.values(), ids=OUTSIDE)
def test_a_link_that_leaves_the_image_folder_is_refused(source: str, folder: Path, look: Look) -> None:
    link_outside(folder)
    expected = r"a link leads out of its image_folder .*/photos; data_args\.images\.follow_links=True follows it"
    with pytest.raises(DataError, match=expected) as caught:
        look(image_ref(source, str(folder)))
    assert not isinstance(caught.value, ImageError), "a fault of the line, which is never skipped"
    assert caught.value.kind == "image-path"


@pytest.mark.parametrize("source", OUTSIDE.values(), ids=OUTSIDE)
def test_such_links_may_be_followed(source: str, folder: Path, look: Look) -> None:
    link_outside(folder)
    configure(ImageSettings(follow_links=True))
    look(image_ref(source, str(folder)))


def test_links_inside_the_folder_are_followed(folder: Path, tmp_path: Path, look: Look) -> None:
    (folder / "again.png").symlink_to("inner/../a.png")
    (folder / "up").symlink_to("inner")
    (folder / "inner" / "down.png").symlink_to("../a.png")
    (tmp_path / "link").symlink_to("photos")
    for around in (folder, tmp_path / "link"):  # the folder itself may be a link
        for name in ("again.png", "up/down.png"):
            look(image_ref(name, str(around)))


def test_a_neighbour_whose_name_begins_alike_is_outside(folder: Path, png: bytes) -> None:
    (folder.parent / "photos-of-others").mkdir()
    (folder.parent / "photos-of-others" / "a.png").write_bytes(png)
    (folder / "b.png").symlink_to("../photos-of-others/a.png")
    with pytest.raises(DataError, match="a link leads out of"):
        image_ref("b.png", str(folder)).open()


# pipes and devices


def make_special(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as end:
            here = os.getcwd()
            os.chdir(path.parent)  # the names of sockets are short
            try:
                end.bind(path.name)
            finally:
                os.chdir(here)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
@pytest.mark.parametrize("of", ["file", "zip", "tar", "member", "base64"])
def test_what_is_no_file_is_an_error_and_not_waited_for(kind: str, of: str, tmp_path: Path, look: Look) -> None:
    path = tmp_path / "a.png"
    make_special(path, kind)
    refs: dict[str, ImageRef] = {
        "file": FileImage(str(path)),
        "zip": UrlImage(f"zip://a.png::{path}"),
        "tar": UrlImage(f"tar://a.png::{path}"),
        "member": MemberImage(path=str(path), start=0, end=9, name="a"),
        "base64": Base64Image(path=str(path), start=0, end=9, name="a"),
    }
    found = "a folder" if kind == "folder" else "a pipe, a socket or a device"
    with pytest.raises(ImageError, match=f"expected a file, found {found}"):
        look(refs[of])


@pytest.mark.parametrize("name", ["loop.png", "x" * 300, "a.png/b.png", "a\0b", ""])
def test_a_name_that_no_file_can_have_is_an_error(name: str, tmp_path: Path, png: bytes, look: Look) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(ImageError):
        look(image_ref(name, str(tmp_path)))


# archives


def test_a_member_may_only_be_a_file_of_the_tar_itself(tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("device", tarfile.CHRTYPE),
            ("block", tarfile.BLKTYPE),
            ("pipe", tarfile.FIFOTYPE),
            ("folder", tarfile.DIRTYPE),
            ("sparse", tarfile.GNUTYPE_SPARSE),
        ):
            info = tarfile.TarInfo(f"{name}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("/../../up.png")
        info.size = len(png)
        archive.addfile(info, io.BytesIO(png))
    for name in ("link", "hard", "device", "block", "pipe", "folder", "sparse"):
        with pytest.raises(ImageError, match=r"the archive has no such file|not a readable"):
            UrlImage(f"tar://{name}.png::{path}").open()
    # names are looked up in the archive, and never on the disk
    assert UrlImage(f"tar:///../../up.png::{path}").size == (60, 40)


@pytest.mark.parametrize("size", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0", b"99999999999\0"])
def test_a_tar_that_lies_about_a_size_is_an_error(tmp_path: Path, size: bytes, look: Look) -> None:
    info = tarfile.TarInfo("a.png")
    header = bytearray(info.tobuf())
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(bytes(header) + b"\0" * 1024)
    with pytest.raises(ImageError):
        look(UrlImage(f"tar://a.png::{tmp_path}/a.tar"))


def test_a_zip_bomb_is_cut_off_at_the_bound(tmp_path: Path, look: Look) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(50_000_000))
    assert (tmp_path / "a.zip").stat().st_size < 60_000
    configure(ImageSettings(max_mb=1))
    with pytest.raises(ImageError, match=r"at most 1 MB \(images\.max_mb\), found"):
        look(UrlImage(f"zip://a.png::{tmp_path}/a.zip"))


def test_a_zip_that_lies_about_a_size_is_an_error(tmp_path: Path, look: Look) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(5_000_000))
    data = (tmp_path / "a.zip").read_bytes().replace(struct.pack("<I", 5_000_000), struct.pack("<I", 100))
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ImageError, match=r"cannot be unpacked|not a readable"):
        look(UrlImage(f"zip://a.png::{tmp_path}/a.zip"))


@pytest.mark.parametrize("kind", ["member", "base64"])
def test_an_embedded_image_is_bounded_too(tmp_path: Path, kind: str, look: Look, noise: Image.Image) -> None:
    file = io.BytesIO()
    noise.resize((1000, 1000)).save(file, "BMP")
    data = file.getvalue() if kind == "member" else base64.b64encode(file.getvalue())
    (tmp_path / "all").write_bytes(data)
    make = MemberImage if kind == "member" else Base64Image
    ref = make(path=str(tmp_path / "all"), start=0, end=len(data), name="a")
    configure(ImageSettings(max_mb=2))
    with pytest.raises(ImageError, match=r"all: a: expected at most 2 MB \(images\.max_mb\), found"):
        look(ref)
    configure(ImageSettings(max_mb=4))
    look(ref)


# images


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *chunks: bytes, bits: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    rows = zlib.compress(bytes((width * bits // 8 + 1) * min(height, 100)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def icon() -> bytes:
    """An icon of 16 x 16 that holds a PNG of 20,000 x 20,000."""
    inner = png_of(20_000, 20_000, bits=1)
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 1, len(inner), 22) + inner


def tiff(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 10)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + body + bytes(4)


def jpeg(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


ZEROS = zlib.compress(bytes(80_000_000), 9)
BOMBS = {
    "png": png_of(100_000, 100_000, bits=1),
    "png-text": png_of(8, 8, chunk(b"zTXt", b"a\0\0" + ZEROS)),
    "png-international-text": png_of(8, 8, chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS)),
    "png-many-texts": png_of(
        8, 8, *(chunk(b"zTXt", b"%d\0\0" % number + zlib.compress(bytes(1_000_000))) for number in range(80))
    ),
    "icon": icon(),
    "gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0\0\0" + b",\0\0\0\0" + b"\xff" * 4 + b"\0\2\2L\1\0;",
    "bmp": b"BM"
    + struct.pack("<IHHI", 99, 0, 0, 54)
    + struct.pack("<IiiHHIIIIII", 40, 99_999, 99_999, 1, 24, *[0] * 6),
    "tiff": tiff(99_999, 99_999),
    "jpeg": jpeg(65_535),
    "ppm": b"P6 99999 99999 255\n" + bytes(100),
    "webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\0" * 2,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_an_error(name: str, tmp_path: Path) -> None:
    assert len(BOMBS[name]) < 1_000_000
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[name])
    with pytest.raises(ImageError):
        FileImage(str(path)).open()


def test_a_profile_of_colours_is_bounded(tmp_path: Path) -> None:
    """Pillow leaves out a profile that is too large, or refuses it."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(8, 8, chunk(b"iCCP", b"a\0\0" + ZEROS)))
    try:
        image = FileImage(str(path)).open()
    except ImageError:
        return
    assert image.size == (8, 8)
    assert not image.info


def test_the_bounds_do_not_depend_on_what_other_libraries_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = tmp_path / "large.png"
    path.write_bytes(png_of(20_000, 10_000, bits=1))
    with pytest.raises(ImageError, match=r"at most 100,000,000 pixels .*, found 20000 x 10000"):
        FileImage(str(path)).open()


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_file_is_an_image_or_an_error_of_images(seed: int, tmp_path: Path) -> None:
    """Bytes of every format flipped, cut and doubled."""
    rng = np.random.default_rng(seed)
    formats = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "JPEG2000", "AVIF")
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(file, formats[seed % len(formats)])
    data = bytearray(file.getvalue())
    for _ in range(int(rng.integers(1, 8))):
        place = int(rng.integers(0, min(len(data), 400)))
        data[place] = int(rng.integers(0, 256))
    if seed % 3 == 0:
        del data[int(rng.integers(10, len(data))) :]
    path = tmp_path / "damaged"
    path.write_bytes(data)
    ref = FileImage(str(path))
    try:
        size = ref.size
        image = ref.open()
    except ImageError:
        return
    assert (image.size, image.mode) == (size, "RGB")
