"""RefCOCO, RefCOCO+, RefCOCOg -> REC_{name}_{by}_{split}.jsonl, for the datasets REC and REG.

    python -m tools.convert.refcoco data/originals/refcoco --by unc
    python -m tools.convert.refcoco data/originals/refcoco+ --by unc
    python -m tools.convert.refcoco data/originals/refcocog --by umd

The folder is that of the public archive: `refs(unc).p` and `instances.json`. Its name is the name of the set. The
pickle is read without running anything that it may hold.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path
from typing import Any

from mllm.errors import DataError
from tools.convert.conversion import Outputs, corners, main, need, read_json, size_of


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
    pictures = {need(picture, "id", source): picture for picture in need(instances, "images", source, list)}
    boxes = {need(found, "id", source): found for found in need(instances, "annotations", source, list)}
    path = folder / f"refs({given.by}).p"
    for ref in out.progress(read_refs(path), folder.name):
        found, picture = boxes.get(ref["ann_id"]), pictures.get(ref["image_id"])
        if found is None or picture is None:
            out.skip("expressions whose box or picture is not in instances.json")
            continue
        size = size_of(picture, source)
        box = corners(need(found, "bbox", source, list), size)
        for sentence in need(ref, "sentences", path, list):
            expression = need(sentence, "sent", path, str).strip()
            if box is None:
                out.skip("boxes without area")
            elif not expression:
                out.skip("expressions without a word")
            else:
                record = {"img_path": need(picture, "file_name", source, str), "expression": expression, "bbox": box}
                record |= {"width": size[0], "height": size[1]}
                out.write(f"REC_{folder.name}_{given.by}_{need(ref, 'split', path, str)}.jsonl", record)


def read_refs(path: Path) -> list[dict[str, Any]]:
    """The references of a pickle of plain values.

    Raises:
        DataError: it cannot be read, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            refs = PlainUnpickler(file, encoding="latin1").load()  # it was written by Python 2
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"{path}: not a pickle of plain values: {error}") from error
    if not isinstance(refs, list) or not all(
        isinstance(ref, dict) and {"ann_id", "image_id"} <= {*ref} for ref in refs
    ):
        raise DataError(f"{path}: expected a list of references with ann_id and image_id")
    return refs


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
