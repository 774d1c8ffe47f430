"""Charades-STA and ActivityNet Captions -> TG_{dataset}_{split}.jsonl, for the dataset Moments.

    python tools/convert/moments.py charades data/originals/charades_sta_test.txt --lengths Charades_v1_test.csv
    python tools/convert/moments.py activitynet data/originals/val_1.json

Charades-STA is lines of text, `VIDEO START END##DESCRIPTION`; the lengths of its videos are in the tables of Charades.
The videos are folders of frames, as Charades_v1_rgb holds them (24 a second, `fps=24`). ActivityNet Captions is
`{VIDEO: {duration, timestamps, sentences}}`; its release has no frames: write some of each video into a folder of its
name. A span that ends before it begins is left out, and counted.

Source: Gao et al. 2017, TALL, arXiv 1705.02101; Krishna et al. 2017, arXiv 1705.00754.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, main
from mllm.errors import DataError
from mllm.fields import is_finite, show
from mllm.files import read_json, read_text
from mllm.json_fields import field

LINE = re.compile(r"(\S+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)\s*##\s*(.*\S)\s*")
SPLIT = re.compile(r"train|val_?\d?|test", re.IGNORECASE)

Moment = tuple[str, str, list[float], float | None]
"""A video, what is described, its span, and the length of the video."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("charades", "activitynet"))
    parser.add_argument("annotations", type=Path, help="charades_sta_{split}.txt, or {train,val_1,val_2}.json")
    parser.add_argument("--lengths", type=Path, help="Charades_v1_{split}.csv, with the columns id and length")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    split = SPLIT.search(given.annotations.stem)
    if split is None:
        raise DataError(where=str(given.annotations), expected="the name of a split in the file's name", found="none")
    dataset = "charades_sta" if given.kind == "charades" else "activitynet_captions"
    found = _charades(given.annotations, given.lengths) if given.kind == "charades" else _activitynet(given.annotations)
    for video, said, span, duration in out.progress(list(found), "moments"):
        if span[0] > span[1]:
            out.skip("spans that end before they begin")
            continue
        length = {} if duration is None else {"duration": duration}
        line = {"video": video, "expression": said, "spans": [span], **length}
        out.write(f"TG_{dataset}_{split[0].lower()}.jsonl", line)


def _charades(path: Path, lengths: Path | None) -> Iterator[Moment]:
    known = {} if lengths is None else _lengths(lengths)
    for place, text in enumerate(read_text(path).splitlines(), start=1):
        line = LINE.fullmatch(text)
        if line is None:
            raise DataError(where=f"{path}:{place}", expected="VIDEO START END##DESCRIPTION", found=show(text))
        yield line[1], line[4], [float(line[2]), float(line[3])], known.get(line[1])


def _lengths(path: Path) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for place, row in enumerate(csv.DictReader(read_text(path).splitlines()), start=2):
        try:
            found[row["id"]] = float(row["length"])
        except (KeyError, TypeError, ValueError) as error:
            expected = "the columns id and length, in seconds"
            raise DataError(where=f"{path}:{place}", expected=expected, found=show(row)) from error
    return found


def _activitynet(path: Path) -> Iterator[Moment]:
    for video, known in read_json(path, dict).items():
        where = f"{path}: {video}"
        duration = field(known, "duration", float, where=where)
        spans, said = field(known, "timestamps", list, where=where), field(known, "sentences", list, where=where)
        if len(spans) != len(said):
            raise DataError(where=where, field="timestamps", expected=f"{len(said)}", found=str(len(spans)))
        for text, span in zip(said, spans, strict=True):
            if not isinstance(text, str):
                raise DataError(where=where, field="sentences", expected="texts", found=show(text))
            yield video, text.strip(), _span(span, where), duration


def _span(value: Any, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_finite, value)):
        raise DataError(where=where, field="timestamps", expected="[start, end] in seconds", found=show(value))
    return [float(value[0]), float(value[1])]


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
