from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.errors import ImageError
from mllm.images import FileImage, ImageRef, contents, image_ref
from mllm.images.contents import shared_images


@pytest.fixture
def painted(tmp_path: Path) -> Any:
    def paint(name: str, *colour: int) -> FileImage:
        Image.new("RGB", (8, 6), colour).save(tmp_path / name)  # pyright: ignore[reportArgumentType]
        return FileImage(path=str(tmp_path / name))

    return paint


def test_files_are_the_same_byte_for_byte(painted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    red, also_red, blue, photo = (
        painted("a.bmp", 9, 0, 0),
        painted("b.bmp", 9, 0, 0),
        *(painted(name, 0, 0, 9) for name in ("c.bmp", "d.jpg")),
    )
    read: list[ImageRef] = []
    monkeypatch.setattr(contents, "_bytes", lambda ref, of=contents._bytes: [read.append(ref), of(ref)][1])
    assert shared_images([red], [blue, also_red, photo]) == {also_red: red}
    assert photo not in read  # of another length
    assert shared_images([], [red]) == {}


def test_other_images_are_compared_by_their_pixels(painted: Any) -> None:
    memory = image_ref(Image.new("RGB", (8, 6), (9, 0, 0)))
    red, wide = painted("a.png", 9, 0, 0), image_ref(Image.new("RGB", (6, 8), (9, 0, 0)))
    assert shared_images([memory, wide], [red]) == {red: memory}


def test_a_missing_file_is_named(painted: Any) -> None:
    with pytest.raises(ImageError, match="gone"):
        shared_images([painted("a.png", 1, 2, 3)], [FileImage(path="gone.png")])
