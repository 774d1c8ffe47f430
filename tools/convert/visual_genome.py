"""Visual Genome -> GC_genome_{all,train,val}.jsonl, for the datasets REC (phrase to box) and REG (box to phrase).

    python tools/convert/visual_genome.py data/originals/region_descriptions.json data/originals/image_data.json

Images are named as the two public archives unpack: VG_100K/2.jpg, VG_100K_2/1.jpg. Boxes are cut at the edges of
their image. `--val FILE` names the ids of the images to hold out, one a line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, entries, image_size, main, read_records, xywh_to_xyxy
from mllm.convert.visual_genome import read_ids, vg_name
from mllm.files import read_json
from mllm.json_fields import ID, field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("regions", type=Path, help="region_descriptions.json")
    parser.add_argument("images", type=Path, help="image_data.json")
    parser.add_argument("--val", type=Path, help="ids of held-out images, one a line")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    images = {field(one, "image_id", ID, where=where): (where, one) for where, one in read_records(given.images)}
    held_out = read_ids(given.val) if given.val else None
    for where, record in entries(out.progress(read_json(given.regions, list), "images"), given.regions):
        for place, region in entries(field(record, "regions", list, where=where), f"{where}: regions"):
            number = field(region, "image_id", ID, where=place)
            image = images.get(number)
            if image is None:
                out.skip("regions of an image that is not in image_data.json")
                continue
            size = image_size(image[1], image[0])
            xywh = [field(region, name, float, where=place) for name in ("x", "y", "width", "height")]
            box = xywh_to_xyxy(xywh, size, place, "x, y, width, height")
            phrase = field(region, "phrase", str, where=place).strip()
            if box is None:
                out.skip("boxes without area in the image")
            elif not phrase:
                out.skip("phrases without a word")
            else:
                part = "all" if held_out is None else "val" if str(number) in held_out else "train"
                line = {
                    "img_path": vg_name(image[1], image[0]),
                    "expression": phrase,
                    "bbox": box,
                    "width": size[0],
                    "height": size[1],
                }
                out.write(f"GC_genome_{part}.jsonl", line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
