"""A folder of images for each class -> {name}.jsonl, for the dataset Instruct: which class is it?

    python tools/convert/image_folder.py data/images/weather/train --question "What is the weather in this image?" \\
        --name weather_train

ImageFolder reads such a folder as it is, words every question anew and draws the order of the options; here every line
asks in the same words, and images that cannot be opened are counted and left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, main
from mllm.errors import ImageError
from mllm.images import image_ref
from mllm.types import IMAGE


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="with a folder for each class")
    parser.add_argument("--question", required=True, help="what is asked of every image; the classes follow")
    parser.add_argument("--name", help="of the file that is written; by default the folder's")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    from mllm.dataset.sets.folder import class_files  # imports the registry, which `--help` need not wait for

    files, folders = class_files(str(given.folder))
    classes = [name.replace("_", " ") for name in folders]
    question = f"{IMAGE}\n{given.question} Options: {', '.join(classes)}."
    for file, number in out.progress(files, "images"):
        try:
            image_ref(file).open()
        except ImageError:
            out.skip("images that cannot be opened")
            continue
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": classes[number]}]
        line = {"image": Path(file).relative_to(given.folder).as_posix(), "conversations": turns}
        out.write(f"{given.name or given.folder.resolve().name}.jsonl", line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
