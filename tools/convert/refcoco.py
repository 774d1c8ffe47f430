"""RefCOCO, RefCOCO+, RefCOCOg -> REC_{name}_{by}_{split}.jsonl, for the datasets REC and REG.

    python tools/convert/refcoco.py data/originals/refcoco --by unc
    python tools/convert/refcoco.py data/originals/refcoco+ --by unc
    python tools/convert/refcoco.py data/originals/refcocog --by umd

The folder is that of the public archive: `refs(unc).p` and `instances.json`. Its name is the name of the set. The
pickle is read without running anything that it may hold.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, by_id, corners, entries, main, size_of
from mllm.errors import DataError
from mllm.fields import ID, field
from mllm.files import read_json, unreadable


class PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, texts and numbers; a pickle that names a class or a function is refused."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds refs(BY).p and instances.json")
    parser.add_argument("--by", default="unc", choices=("unc", "umd", "google"), help="whose splits")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    folder: Path = given.folder
    instances = read_json(folder / "instances.json", dict)
    source = folder / "instances.json"
    images = by_id(instances, "images", source)
    boxes = by_id(instances, "annotations", source)
    path = folder / f"refs({given.by}).p"
    for where, ref in entries(out.progress(read_refs(path), folder.name), path):
        found, image = (
            boxes.get(field(ref, "ann_id", ID, where=where)),
            images.get(field(ref, "image_id", ID, where=where)),
        )
        if found is None or image is None:
            out.skip("expressions whose box or image is not in instances.json")
            continue
        size = size_of(image[1], image[0])
        box = corners(field(found[1], "bbox", list, where=found[0]), size, found[0], "bbox")
        for place, sentence in entries(field(ref, "sentences", list, where=where), f"{where}: sentences"):
            expression = field(sentence, "sent", str, where=place).strip()
            if box is None:
                out.skip("boxes without area")
            elif not expression:
                out.skip("expressions without a word")
            else:
                name = field(image[1], "file_name", str, where=image[0])
                record = {"img_path": name, "expression": expression, "bbox": box}
                record |= {"width": size[0], "height": size[1]}
                out.write(f"REC_{folder.name}_{given.by}_{field(ref, 'split', str, where=where)}.jsonl", record)


def read_refs(path: Path) -> list[Any]:
    """The references of a pickle of plain values.

    Raises:
        DataError: it cannot be read, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            refs = PlainUnpickler(file, encoding="latin1").load()  # it was written by Python 2
    except OSError as error:
        raise unreadable(path, error) from error
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"not a pickle of plain values: {error}", where=str(path)) from error
    if not isinstance(refs, list):
        raise DataError(where=str(path), expected="a list of references", found=type(refs).__name__)
    return refs


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
