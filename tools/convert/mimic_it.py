"""MIMIC-IT -> mimic_it_{name}.jsonl and images as files, for the dataset Instruct.

    python tools/convert/mimic_it.py data/originals/LA/LACR_T2T_instructions.json --images data/originals/LA/LA.json \\
        --relations data/originals/LA/LACR_T2T_train.json --images data/images/mimic_it/LA
    python tools/convert/mimic_it.py data/originals/DC/DC_instructions.json --images data/originals/DC/DC.parquet \\
        --relations data/originals/DC/DC_train.json --images data/images/mimic_it/DC \\
        --video --frames 8 --shared-images

The dataset MimicIt reads these files as they are, and this converter reads them through it: a line for each
instruction, the related ones before it. Images are written as they are coded, once each: `{id}.jpg` or `{id}.png`;
those that are there from an earlier run stay.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, main
from mllm.errors import ConfigError, DataError
from mllm.fields import show
from mllm.images import ImageRef, Video
from mllm.images.embedded import Base64Image

SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png"}
"""By the first bytes of a file."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instructions", type=Path, help="X_instructions.json")
    parser.add_argument("--images", type=Path, help="X.json or X.parquet; none for text alone")
    parser.add_argument("--relations", type=Path, help="X_train.json; by default the rel_ins_ids of each instruction")
    parser.add_argument("--pictures", type=Path, help="folder to write the images to: the image_folder of Instruct")
    parser.add_argument("--video", action="store_true", help="the images of an instruction are the frames of a video")
    parser.add_argument("--frames", type=int, help="at most so many images of an instruction, evenly spread")
    parser.add_argument("--related", type=int, help="at most so many related instructions, the last ones")
    parser.add_argument("--shared-pictures", action="store_true", help="related instructions share the images")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    if (given.images is None) != (given.pictures is None):
        raise ConfigError("expected --images and --pictures, or neither")
    from mllm.dataset.sets.mimic_it import MimicIt  # imports the registry, which `--help` need not wait for

    dataset = MimicIt(
        filename=str(given.instructions),
        images=given.images and str(given.images),
        relations=given.relations and str(given.relations),
        related=given.related,
        frames=given.frames,
        video=given.video,
        shared_pictures=given.shared_pictures,
    )
    name = f"mimic_it_{given.instructions.stem.removesuffix('_instructions')}.jsonl"
    for index in out.progress(range(len(dataset)), name):
        item = dataset[index]
        turns = [{"from": turn.role, "value": turn.text} for turn in item.turns]
        out.write(name, {"images": [file_of(ref, given.pictures) for ref in item.images], "conversations": turns})


def file_of(ref: ImageRef, folder: Path) -> Any:
    """The name under `folder` of an image, which is written there; of a video a list of them."""
    if isinstance(ref, Video):
        return [file_of(frame, folder) for frame in ref.frames]
    assert isinstance(ref, Base64Image)
    code = ref.read().getvalue()
    suffix = SUFFIXES.get(code[:3])
    if suffix is None:
        raise DataError(where=ref.where, expected="a JPEG or a PNG", found=repr(code[:8]))
    path = (folder / f"{ref.name}{suffix}").resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(where=ref.path, expected="ids that are names of files", found=show(ref.name))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.write(code)
        Path(part).chmod(0o644)
        os.replace(part, path)
    return path.relative_to(folder.resolve()).as_posix()


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
