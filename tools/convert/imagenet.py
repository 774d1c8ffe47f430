"""ImageNet -> imagenet_{split}.jsonl, for the dataset Caption, and imagenet_classes.json, the names to rank.

    python tools/convert/imagenet.py data/images/imagenet/val data/originals/LOC_synset_mapping.txt \\
        --solution data/originals/LOC_val_solution.csv --names data/originals/names.json

The folder holds a folder for each class, `val/n01440764/*.JPEG`, or, with `--solution`, all images. The mapping has a
class a line, `n01440764 tench, Tinca tinca`; what stands before the first comma is its name. `--names` gives some
classes, or all of them, other names, `{"n03126707": "construction crane"}`: two classes of ImageNet are called crane.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mllm.convert.conversion import Outputs, main
from mllm.errors import DataError
from mllm.fields import show
from mllm.files import read_json, read_text
from mllm.json_fields import field

CLASSES = "imagenet_classes.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the images of a split")
    parser.add_argument("synsets", type=Path, help="LOC_synset_mapping.txt")
    parser.add_argument("--solution", type=Path, help="LOC_val_solution.csv: the class of each image of one folder")
    parser.add_argument("--names", type=Path, help="names of classes, a JSON object")
    parser.add_argument("--split", help="by default the name of the folder")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    names = class_names(given.synsets, given.names)
    found = from_table(given.solution) if given.solution else from_folders(given.folder, names)
    split = given.split or given.folder.resolve().name
    for where, image, synset in found:
        if synset not in names:
            raise DataError(where=where, expected=f"a class of {given.synsets}", found=show(synset))
        if (given.folder / image).is_file():
            out.write(f"imagenet_{split}.jsonl", {"img_path": image, "caption": names[synset]})
        else:
            out.skip("images that are not in the folder")
    out.write_text(CLASSES, json.dumps(list(names.values()), ensure_ascii=False, indent=0) + "\n", len(names))


def class_names(synsets: Path, renamed: Path | None) -> dict[str, str]:
    """The name of each class, in the order of the file.

    Raises:
        DataError: two classes have the same name, or a name is given to none.
    """
    lines = [line for line in read_text(synsets).splitlines() if line.strip()]
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        synset, _, words = line.partition(" ")
        if not words.strip():
            raise DataError(where=f"{synsets}:{number}", expected="a class and its words", found=show(line))
        names[synset] = words.split(",")[0].strip()
    if renamed is not None:
        given = read_json(renamed, dict)
        for synset in given:
            if synset not in names:
                raise DataError(where=str(renamed), field=synset, expected=f"a class of {synsets}", found="none")
            names[synset] = field(given, synset, str, where=renamed)
    first: dict[str, str] = {}
    for synset, name in names.items():
        if name in first:
            expected, found = f"a name of its own for {synset}", f"{name!r}, as of {first[name]}"
            raise DataError("give one of them with --names", where=str(synsets), expected=expected, found=found)
        first[name] = synset
    return names


def from_table(path: Path) -> Iterator[tuple[str, str, str]]:
    """Place, image and class of each row: `ILSVRC2012_val_00048981,n03995372 85 1 499 272`."""
    for number, row in enumerate(csv.DictReader(read_text(path).splitlines()), 2):
        where = f"{path}:{number}"
        words: Mapping[str, str] = {name: value for name, value in row.items() if value is not None}
        classes = field(words, "PredictionString", str, where=where).split()
        yield where, f"{field(words, 'ImageId', str, where=where)}.JPEG", classes[0] if classes else ""


def from_folders(folder: Path, names: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for synset in names:
        for path in sorted((folder / synset).glob("*")):
            yield str(path), f"{synset}/{path.name}", synset


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
