from __future__ import annotations

import io
import multiprocessing
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from mllm.errors import ImageError
from mllm.images import UrlImage, archives, image_ref
from mllm.images.settings import ImageSettings, configure


@pytest.fixture
def folder(tmp_path: Path, png: bytes) -> Path:
    """`photos.zip` and `photos.tar`, each of a/b.png, a/notes.txt and, in the tar, a link out of it."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.png", png)
        archive.writestr("a/notes.txt", "no image")
        archive.writestr("zeros.bin", bytes(3_000_000))
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for name, data in (("./a/b.png", png), ("a/notes.txt", b"no image"), ("zeros.bin", bytes(3_000_000))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    return tmp_path


@pytest.mark.parametrize("kind", ["zip", "tar"])
class TestMembers:
    def test_opens(self, kind: str, folder: Path, noise: Image.Image, cache: Path) -> None:
        ref = image_ref(f"{kind}://a/b.png::photos.{kind}", str(folder))
        assert ref.size == (60, 40)
        assert ref.open().tobytes() == noise.tobytes()
        assert not cache.exists(), "it is on this disk already"

    @pytest.mark.parametrize("member", ["/a/b.png", "./a/b.png", "c.png", "/c.png"])
    def test_names_with_and_without_their_beginning(
        self, kind: str, member: str, folder: Path, png: bytes, noise: Image.Image
    ) -> None:
        with zipfile.ZipFile(folder / "photos.zip", "a") as archive:
            archive.writestr("./c.png", png)
        with tarfile.open(folder / "photos.tar", "a") as archive:
            info = tarfile.TarInfo("./c.png")
            info.size = len(png)
            archive.addfile(info, io.BytesIO(png))
        assert image_ref(f"{kind}://{member}::photos.{kind}", str(folder)).open().tobytes() == noise.tobytes()

    def test_the_directory_is_read_once(self, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        reads: list[str] = []
        opened = archives.Archive.__init__
        monkeypatch.setattr(
            archives.Archive, "__init__", lambda self, *given: (reads.append(given[2]), opened(self, *given))[1]
        )
        for _ in range(5):
            image_ref(f"{kind}://a/b.png::photos.{kind}", str(folder)).open()
        assert reads == [str(folder / f"photos.{kind}")]

    def test_a_forked_worker_opens_its_own(self, kind: str, folder: Path) -> None:
        """Else both would move the one position of a shared file."""
        ref = image_ref(f"{kind}://a/b.png::photos.{kind}", str(folder))
        ref.open()
        here = archives._archive.cache_info().misses

        def work() -> None:
            ref.open()
            assert archives._archive.cache_info().misses == here + 1

        worker = multiprocessing.get_context("fork").Process(target=work)
        worker.start()
        worker.join()
        assert worker.exitcode == 0

    @pytest.mark.parametrize(
        ("member", "message"),
        [
            ("none.png", "the archive has no such file"),
            ("../photo.png", "the archive has no such file"),
            ("a/notes.txt", "expected an image, one of"),
            ("zeros.bin", r"expected at most 2 MB \(images\.max_mb\), found more"),
        ],
    )
    def test_what_is_wrong_is_named(self, kind: str, member: str, message: str, folder: Path) -> None:
        configure(ImageSettings(max_mb=2))
        with pytest.raises(ImageError, match=rf"^{kind}://{member}::{folder}/photos\.{kind}: {message}"):
            image_ref(f"{kind}://{member}::photos.{kind}", str(folder)).open()

    def test_no_such_archive(self, kind: str, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=rf"{tmp_path}/none\.{kind}: no such file"):
            UrlImage(f"{kind}://a.png::{tmp_path}/none.{kind}").open()

    def test_no_archive_at_all(self, kind: str, photo: str) -> None:
        with pytest.raises(ImageError, match=rf"photo\.png: not a readable {kind} file"):
            UrlImage(f"{kind}://a.png::{photo}").open()


def test_links_in_a_tar_are_not_followed(folder: Path) -> None:
    with pytest.raises(ImageError, match="the archive has no such file"):
        UrlImage(f"tar://link.png::{folder}/photos.tar").open()


def test_a_compressed_tar_is_refused(folder: Path) -> None:
    """Each member would be unpacked from the start."""
    with tarfile.open(folder / "photos.tar.gz", "w:gz") as archive:
        archive.add(folder / "photos.zip", "a.zip")
    with pytest.raises(ImageError, match=r"not a readable tar file \(which must not be compressed\)"):
        UrlImage(f"tar://a.zip::{folder}/photos.tar.gz").open()


def test_a_tar_that_is_cut_off(folder: Path, noise: Image.Image) -> None:
    data = (folder / "photos.tar").read_bytes()
    (folder / "cut.tar").write_bytes(data[:3000])
    with pytest.raises(ImageError, match=r"tar: (cannot be unpacked: the archive ends after|not a readable tar)"):
        UrlImage(f"tar://a/b.png::{folder}/cut.tar").open()


def test_a_damaged_member_of_a_zip(folder: Path) -> None:
    data = bytearray((folder / "photos.zip").read_bytes())
    data[200:210] = bytes(10)
    (folder / "damaged.zip").write_bytes(data)
    with pytest.raises(ImageError, match=r"zip://a/b\.png::.*damaged\.zip: cannot be unpacked"):
        UrlImage(f"zip://a/b.png::{folder}/damaged.zip").open()
