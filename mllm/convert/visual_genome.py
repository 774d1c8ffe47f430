"""The images of Visual Genome, which SVIT and LRV speak of too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mllm.convert.conversion import image_size, read_records
from mllm.files import read_text
from mllm.json_fields import ID, field


def vg_name(image: dict[str, object], where: str) -> str:
    """Where the public archives put an image of image_data.json."""
    return "/".join(field(image, "url", str, where=where).split("/")[-2:])


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    size: tuple[int, int]
    """Width, height."""


def vg_images(path: Path) -> dict[str, Image]:
    """The images of an image_data.json by their ids."""
    return {
        str(field(one, "image_id", ID, where=where)): Image(vg_name(one, where), image_size(one, where))
        for where, one in read_records(path)
    }


def read_ids(path: Path) -> set[str]:
    """Ids, one a line."""
    return set(read_text(path).split())
