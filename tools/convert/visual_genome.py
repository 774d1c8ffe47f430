"""Visual Genome -> GC_genome_{all,train,val}.jsonl, for the datasets REC (phrase to box) and REG (box to phrase).

    python -m tools.convert.visual_genome data/originals/region_descriptions.json data/originals/image_data.json

Pictures are named as the two public archives unpack: VG_100K/2.jpg, VG_100K_2/1.jpg. Boxes are cut at the edges of
their picture. `--val FILE` names the ids of the pictures to hold out, one a line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.errors import DataError
from tools.convert.conversion import Outputs, corners, main, need, read_json, size_of


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("regions", type=Path, help="region_descriptions.json")
    parser.add_argument("images", type=Path, help="image_data.json")
    parser.add_argument("--val", type=Path, help="ids of held-out pictures, one a line")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    pictures = {need(picture, "image_id", given.images): picture for picture in read_json(given.images, list)}
    held_out = read_ids(given.val) if given.val else None
    for record in out.progress(read_json(given.regions, list), "pictures"):
        for region in need(record, "regions", given.regions, list):
            number = need(region, "image_id", given.regions)
            picture = pictures.get(number)
            if picture is None:
                out.skip("regions of a picture that is not in image_data.json")
                continue
            size = size_of(picture, given.images)
            box = corners([need(region, name, given.regions) for name in ("x", "y", "width", "height")], size)
            phrase = need(region, "phrase", given.regions, str).strip()
            if box is None:
                out.skip("boxes without area in the picture")
            elif not phrase:
                out.skip("phrases without a word")
            else:
                part = "all" if held_out is None else "val" if str(number) in held_out else "train"
                line = {
                    "img_path": vg_name(picture),
                    "expression": phrase,
                    "bbox": box,
                    "width": size[0],
                    "height": size[1],
                }
                out.write(f"GC_genome_{part}.jsonl", line)


def vg_name(picture: dict[str, Any]) -> str:
    """Where the public archives put a picture of image_data.json."""
    return "/".join(need(picture, "url", "image_data.json", str).split("/")[-2:])


def vg_names(path: Path) -> dict[str, str]:
    """The same by id, of a whole image_data.json."""
    return {str(need(picture, "image_id", path)): vg_name(picture) for picture in read_json(path, list)}


def read_ids(path: Path) -> set[str]:
    """Ids, one a line."""
    try:
        return set(path.read_text(encoding="utf-8").split())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
