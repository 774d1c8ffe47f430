"""RefCOCO, RefCOCO+, RefCOCOg -> REC_{name}_{by}_{split}.jsonl, for the datasets REC and REG.

    python tools/convert/refcoco.py data/originals/refcoco --by unc
    python tools/convert/refcoco.py data/originals/refcoco+ --by unc
    python tools/convert/refcoco.py data/originals/refcocog --by umd

    python tools/convert/refcoco.py data/originals/refcoco+ --reviewed refcoco+_val_reviewed.json

The folder is that of the public archive: `refs(unc).p` and `instances.json`. Its name is the name of the set. The
pickle is read without running anything that it may hold.

`--reviewed` takes Ref-L4's reviews (refcocos_annotation_reviewed), which mark faulty expressions. The files are then
REC_{name}_{by}_{split}_reviewed.jsonl, and hold the expressions that a review finds right.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, entries, image_size, index_by_id, main, xywh_to_xyxy
from mllm.errors import DataError
from mllm.files import read_json, unreadable_file
from mllm.json_fields import ID, field

ReviewKey = tuple[str, str, str]


class PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, texts and numbers; a pickle that names a class or a function is refused."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds refs(BY).p and instances.json")
    parser.add_argument("--by", default="unc", choices=("unc", "umd", "google"), help="whose splits")
    parser.add_argument("--reviewed", type=Path, nargs="+", default=[], help="Ref-L4's reviews of the splits")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    folder: Path = given.folder
    instances = read_json(folder / "instances.json", dict)
    source = folder / "instances.json"
    images = index_by_id(instances, "images", source)
    boxes = index_by_id(instances, "annotations", source)
    right = reviews(given.reviewed)
    ending = "_reviewed" if given.reviewed else ""
    path = folder / f"refs({given.by}).p"
    for where, ref in entries(out.progress(read_refs(path), folder.name), path):
        found, image = (
            boxes.get(field(ref, "ann_id", ID, where=where)),
            images.get(field(ref, "image_id", ID, where=where)),
        )
        if found is None or image is None:
            out.skip("expressions whose box or image is not in instances.json")
            continue
        size = image_size(image[1], image[0])
        box = xywh_to_xyxy(field(found[1], "bbox", list, where=found[0]), size, found[0], "bbox")
        for place, sentence in entries(field(ref, "sentences", list, where=where), f"{where}: sentences"):
            expression = field(sentence, "sent", str, where=place).strip()
            if box is None:
                out.skip("boxes without area")
            elif not expression:
                out.skip("expressions without a word")
            elif given.reviewed and (verdict := right.get(review_key(image[1], found[1], expression))) is not True:
                out.skip(
                    "expressions without a review" if verdict is None else "expressions that a review calls faulty"
                )
            else:
                name = field(image[1], "file_name", str, where=image[0])
                record = {"img_path": name, "expression": expression, "bbox": box}
                record |= {"width": size[0], "height": size[1]}
                out.write(f"REC_{folder.name}_{given.by}_{field(ref, 'split', str, where=where)}{ending}.jsonl", record)


def reviews(paths: Sequence[Path]) -> dict[ReviewKey, bool]:
    """Whether an expression is right, by image, box and words: `caption_quality` of the annotations of Ref-L4."""
    right: dict[ReviewKey, bool] = {}
    for path in paths:
        found = read_json(path, dict)
        images = index_by_id(found, "images", path)
        for where, annotation in entries(field(found, "annotations", list, where=path), f"{path}: annotations"):
            number = field(annotation, "image_id", ID, where=where)
            if number not in images:
                raise DataError(where=where, field="image_id", expected="one of the images", found=str(number))
            at, image = images[number]
            quality = field(annotation, "caption_quality", int, where=where)
            if quality not in (0, 1):
                raise DataError(where=where, field="caption_quality", expected="0 or 1", found=str(quality))
            key = review_key(image, annotation, field(image, "caption", str, where=at), "original_id", where)
            right[key] = quality == 1
    return right


def review_key(
    image: dict[str, Any], box: dict[str, Any], expression: str, name: str = "id", where: str = ""
) -> ReviewKey:
    """What reviews and annotations of COCO share: ids of image and box, and the words whatever their case."""
    ids = (field(record, name, ID, where=where) for record in (image, box))
    first, second = map(str, ids)
    return first, second, " ".join(expression.casefold().split())


def read_refs(path: Path) -> list[Any]:
    """The references of a pickle of plain values.

    Raises:
        DataError: it cannot be read, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            refs = PlainUnpickler(file, encoding="latin1").load()  # it was written by Python 2
    except OSError as error:
        raise unreadable_file(path, error) from error
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"not a pickle of plain values: {error}", where=str(path)) from error
    if not isinstance(refs, list):
        raise DataError(where=str(path), expected="a list of references", found=type(refs).__name__)
    return refs


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
