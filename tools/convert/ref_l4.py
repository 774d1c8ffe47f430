"""Ref-L4 -> REC_ref_l4_{split}.jsonl, for the dataset REC; the class of the object is the `category` of its `group`.

    python tools/convert/ref_l4.py data/originals/ref-l4-val.parquet data/originals/ref-l4-test.parquet

Takes the public parquet tables (`pip install pyarrow`), or their rows as JSON lines. The benchmark merges classes of
COCO (`refcoco_1`) with those of Objects365 (`o365_1`) before it averages over classes: `--categories` takes that map as
a JSON object, `{"refcoco_1": "o365_1", ...}`. Without it they are classes of their own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, image_size, main, read_table, xywh_to_xyxy
from mllm.files import read_json
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", type=Path, nargs="+", help="ref-l4-*.parquet")
    parser.add_argument("--categories", type=Path, help="a JSON object: the class that each class counts as")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    merged = read_json(given.categories, dict) if given.categories else {}
    for table in given.tables:
        for where, row in out.progress(list(read_table(table)), table.name):
            size = image_size(row, where)
            box = xywh_to_xyxy(field(row, "bbox", list, where=where), size, where, "bbox")
            expression = field(row, "caption", str, where=where).strip()
            category = field(row, "ori_category_id", str, where=where)
            if box is None:
                out.skip("boxes without area")
            elif not expression:
                out.skip("expressions without a word")
            else:
                line = {"img_path": field(row, "file_name", str, where=where), "expression": expression, "bbox": box}
                line |= {"width": size[0], "height": size[1], "group": {"category": merged.get(category, category)}}
                out.write(f"REC_ref_l4_{field(row, 'split', str, where=where)}.jsonl", line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
