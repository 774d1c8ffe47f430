"""Answers drawn on their images: cards inside a page, and all answers in files beside it, for the page's script.

A page `X.html` finds them in the folder `X_files`: scripts with `SHARE` items each, since a page that is opened from
a disk may load scripts but no other data, and copies of images that a browser cannot open by itself.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mllm.images import FileImage, ImageRef, is_remote
from mllm.images.settings import current_settings
from mllm.report import page
from mllm.time_spans import TimeSpan
from mllm.types import BOXES, IMAGE, POINTS, SPANS, Box, Point

SHARE = 1000
"""Items in a file of data."""
MOST_COPIES = 1000
"""Images that are copied at most, about 40 kB each if they are photos."""
MOST_OTHERS = 50
"""Other boxes of an image that are drawn at most."""
BY_BROWSERS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
"""Image files that a browser opens."""
IMAGES = "images"
MARKS = {IMAGE: "image", BOXES: "box", POINTS: "point", SPANS: "time"}
_MARKS = re.compile(f"((?:{IMAGE})+|{'|'.join(MARKS)})")

Region = Box | Point


@dataclass(frozen=True, slots=True, kw_only=True)
class CardAnswer:
    """What a model said about an item."""

    text: str
    verdict: str
    """What it is worth, as `IoU 0.83`; '' where that is not known."""
    regions: tuple[Region, ...] = ()
    """Those on the image, in the order of the text."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where in `text` each region is written; empty where that is not known."""
    places: tuple[str, ...] = ()
    """What is said of the place of each region, where it is not its pixels in the picture."""
    times: tuple[TimeSpan, ...] = ()
    """Time spans of the video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One item with the answers of each model, in the same order for all items."""

    index: int
    key: str
    answers: tuple[CardAnswer, ...]
    question: str = ""
    """As in the item: may hold `<image>`, `<boxes>` and `<points>`; the texts of the truth likewise."""
    truths: tuple[str, ...] = ()
    name: str = ""
    """Of the image: items about one image have the same."""
    image: ImageRef | None = None
    """What the regions lie on; None shows texts alone."""
    size: tuple[int, int] | None = None
    """Width and height of the image that the regions are of, where `image` is a smaller copy."""
    true: tuple[Region, ...] = ()
    asked: tuple[Region, ...] = ()
    """What the question's placeholders stand for."""
    candidates: tuple[Box, ...] = ()
    """Other objects of the image that the item knows."""
    times: tuple[TimeSpan, ...] = ()
    """True time spans of the video."""
    duration: float | None = None
    """Of the video in seconds."""
    kinds: Mapping[str, str] = field(default_factory=dict[str, str])
    """What to filter by."""
    measures: Mapping[str, float] = field(default_factory=dict[str, float])
    """What to sort by, and to filter by range."""


def card(entry: Entry) -> dict[str, Any]:
    """What a page shows of an item, as JSON holds it: regions are [x1, y1, x2, y2] or [x, y] in pixels."""
    drawn = {
        "true": list(map(_numbers, entry.true)),
        "asked": list(map(_numbers, entry.asked)),
    }
    return {
        "index": entry.index,
        "key": entry.key,
        "question": _segments(entry.question),
        "truths": [_segments(text) for text in entry.truths],
        **drawn,
        "answers": [
            {
                "text": answer.text.strip(),
                "verdict": answer.verdict,
                "regions": list(map(_numbers, answer.regions)),
                **({"places": list(answer.places)} if answer.places else {}),
                **({"labels": labels} if any(labels := _labels(answer.regions)) else {}),
                **({"pieces": _pieces(answer)} if answer.spans and len(answer.regions) > 1 else {}),
            }
            for answer in entry.answers
        ],
        **({"timeline": line} if (line := _timeline(entry)) else {}),
        "kinds": dict(entry.kinds),
        "measures": {name: round(value, 4) for name, value in entry.measures.items()},
    }


def embedded_card(entry: Entry, answered: Sequence[str]) -> dict[str, Any]:
    """The same with its image inside, for the page itself; `answered` names the answers for who does not see them.

    Raises:
        DataError: the image cannot be read.
    """
    shown = card(entry)
    parts = [("true", shown["true"])]
    parts += [(name, answer["regions"]) for name, answer in zip(answered, shown["answers"], strict=True)]
    parts += [("asked", shown["asked"])]
    size = {} if entry.size is None else dict(zip(("width", "height"), entry.size, strict=True))
    return {
        **shown,
        "image": None if entry.image is None else {**page.embedded(entry.image.open()), **size},
        "description": "; ".join(f"{name}: {_coordinates(regions)}" for name, regions in parts if regions),
    }


def data_folder(path: Path) -> Path:
    """Where the data of a page is, whose name may end in more than `.html`."""
    return path.with_name(path.name.replace(".html", "_files"))


def write_data(path: Path, entries: Sequence[Entry], answered: Sequence[str]) -> dict[str, Any]:
    """Write the data of a page into its folder, in place of what is there; what the page must know of it.

    Args:
        path: the page; files that images are read from are named as seen from there.
        answered: the names of the answers.

    Raises:
        DataError: an image that is copied cannot be read.
    """
    folder, name = data_folder(path), f"{path.name.split('.html')[0]}_files"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    pictures, others = _Pictures(folder, name), _boxes_by_image(entries)
    files: list[str] = []
    for start in range(0, len(entries), SHARE):
        images: dict[str, int] = {}
        pages: list[dict[str, object]] = []
        items: list[dict[str, Any]] = []
        for entry in entries[start : start + SHARE]:
            shown = card(entry)
            if entry.image is not None:
                if entry.name not in images:
                    images[entry.name] = len(pages)
                    pages.append({**pictures.of(entry.name, entry.image, entry.size), "boxes": others[entry.name]})
                shown["image"] = images[entry.name]
            items.append(shown)
        data = json.dumps({"images": pages, "items": items}, ensure_ascii=False, separators=(",", ":"))
        files.append(f"{len(files):03}.js")
        (folder / files[-1]).write_text(f"loaded({data})\n", encoding="utf-8", errors="replace")
    return {
        "folder": name,
        "files": files,
        "count": len(entries),
        "answered": list(answered),
        "others": any(len(boxes) > 1 for boxes in others.values()),
        "kinds": _values(entries),
        "measures": list(dict.fromkeys(name for entry in entries for name in entry.measures)),
    }


class _Pictures:
    """Where a page finds its images: in their files, or in copies."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.copies = folder, name, 0

    def of(self, name: str, image: ImageRef, size: tuple[int, int] | None) -> dict[str, Any]:
        """Source and size of an image; where the page has none, `missing` says why."""
        known = {"name": name}
        if isinstance(image, FileImage) and _is_for_browsers(image.path):
            source = relpath(image.path, self.folder.parent)
        elif is_remote(image):
            return {**known, "missing": "not copied from where it is stored"}
        elif self.copies == MOST_COPIES:
            return {**known, "missing": f"not copied: only the first {MOST_COPIES} images are"}
        else:
            self.copies += 1
            small = page.shrunk(image.open())
            target = self.folder / IMAGES / f"{_digest(name)}.{small.kind}"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(small.data)
            source = f"{self.name}/{IMAGES}/{target.name}"
        width, height = size or image.size
        pixel_art = max(width, height) <= page.PIXEL_ART_SIDE
        return {**known, "source": quote(source), "width": width, "height": height, "pixel_art": pixel_art}


def copy_of(path: Path, name: str) -> Path | None:
    """The copy of an image beside a page; None where there is none."""
    return next((data_folder(path) / IMAGES).glob(f"{_digest(name)}.*"), None)


def _digest(name: str) -> str:
    """The name of an image's copy."""
    return sha256(name.encode("utf-8", errors="replace")).hexdigest()[:16]


def _is_for_browsers(path: str) -> bool:
    """Whether a browser shows the file as it is opened here."""
    return current_settings().exif and Path(path).suffix.lower() in BY_BROWSERS


def _boxes_by_image(entries: Iterable[Entry]) -> dict[str, list[list[float]]]:
    """What is known of each image: the true boxes and the candidates of all items about it, each once."""
    found: dict[str, dict[tuple[float, ...], None]] = {}
    for entry in entries:
        if entry.image is not None:
            boxes = [region for region in (*entry.true, *entry.candidates) if isinstance(region, Box)]
            found.setdefault(entry.name, {}).update(dict.fromkeys(tuple(_numbers(box)) for box in boxes))
    return {name: [list(box) for box in list(boxes)[:MOST_OTHERS]] for name, boxes in found.items()}


def _values(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """For each kind how many items have each of its values; kinds with one value tell nothing."""
    names = dict.fromkeys(name for entry in entries for name in entry.kinds)
    counted = {name: Counter(entry.kinds[name] for entry in entries if name in entry.kinds) for name in names}
    return {name: dict(values) for name, values in counted.items() if len(values) > 1}


def _segments(text: str) -> list[str | list[str]]:
    """Pieces of a text; a list holds what a placeholder reads. A lone `<image>` is left out: it is shown."""
    if text.count(IMAGE) == 1:
        text = text.replace(IMAGE, "")
    return [[_mark(piece)] if _MARKS.fullmatch(piece) else piece for piece in _MARKS.split(text.strip()) if piece]


def _mark(placeholders: str) -> str:
    """What a placeholder reads, or a row of images."""
    count = placeholders.count(IMAGE)
    return f"{count} images" if count > 1 else MARKS[placeholders]


def _pieces(answer: CardAnswer) -> list[str | list[object]]:
    """The answer's text in pieces; a list holds a form and the places of the regions that it writes."""
    written: dict[tuple[int, int], list[int]] = {}
    for place, span in enumerate(answer.spans):
        written.setdefault(span, []).append(place)
    pieces: list[str | list[Any]] = []
    end = 0
    for (first, last), places in sorted(written.items()):
        if first < end:  # a form inside another
            continue
        pieces += [answer.text[end:first], [answer.text[first:last], places]]
        end = last
    return [piece for piece in (*pieces, answer.text[end:]) if piece]


def _timeline(entry: Entry) -> dict[str, object] | None:
    """Bars of a time line, first that of the truth: each span by start and end, in per cent; None without spans."""
    rows = [entry.times, *(answer.times for answer in entry.answers)]
    ends = [span.end for row in rows for span in row]
    if not ends:
        return None
    length = max(entry.duration or 0.0, *ends) or 1.0
    return {
        "length": round(length, 2),
        "rows": [[[round(100 * at / length, 2) for at in (span.start, span.end)] for span in row] for row in rows],
        "seconds": [[[round(span.start, 2), round(span.end, 2)] for span in row] for row in rows],
    }


def _labels(regions: Iterable[Region]) -> list[str]:
    return [(region.label or "") if isinstance(region, Box) else "" for region in regions]


def _numbers(region: Region) -> list[float]:
    return [round(value, 2) for value in (region.xyxy if isinstance(region, Box) else region.xy)]


def _coordinates(regions: Iterable[Sequence[float]]) -> str:
    """Rounded pixels, for readers who do not see the drawing."""
    return ", ".join(f"[{', '.join(f'{value:.0f}' for value in values)}]" for values in regions)
