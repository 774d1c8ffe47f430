"""The page of a comparison: differences with their intervals, and the answers of all models on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mllm.commands.compare.comparing import SUFFIX, Compared, PredictionsFile, verdict
from mllm.images import FileImage
from mllm.metrics.statistics import Difference
from mllm.report import page
from mllm.report.gallery import CardAnswer, Entry, Region, copy_of, embedded_card, write_data
from mllm.report.index import REPORT
from mllm.time_spans import TimeSpan
from mllm.types import Box, Point

PAGE = "compare.html"
CARDS = 12
"""Cards in a section of the page itself."""

Record = Mapping[str, Any]


def write_comparison(folder: Path, models: Sequence[PredictionsFile], comparisons: Sequence[Compared]) -> Path:
    """Write `compare.html`, and beside it the folder with all answers; where it is.

    Images are those that the predictions name, or the copies beside the report of one of the models.

    Args:
        models: with answers to the same items.
        comparisons: of each other model with the first.

    Raises:
        DataError: an image cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, names = folder / PAGE, [model.name for model in models]
    binary = all(each.difference.p is not None for each in comparisons)
    entries = [
        _entry(records, models, binary=binary) for records in zip(*(model.records for model in models), strict=True)
    ]
    data = write_data(path, entries, names)
    by_index = {entry.index: entry for entry in entries}
    sections = [section for each in comparisons for section in _sections(each, by_index, names, binary=binary)]
    page.write(
        path,
        "commands/compare/compare.html.j2",
        title=" and ".join(names),
        date=datetime.now().strftime("%Y-%m-%d %H:%M"),
        items=len(entries),
        images=comparisons[0].difference.images,
        answered=names,
        comparisons=_differences([(each.b.name, each.difference) for each in comparisons]),
        tables=[
            {"name": name, "model": each.b.name, "rows": _differences(parts.items())}
            for each in comparisons
            for name, parts in each.parts.items()
            if parts
        ],
        first=names[0],
        layers=_layers(entries, names, others=data["others"]),
        data=data,
        sections=sections,
        scripts=("tables.js", "gallery.js"),
    )
    return path


def _differences(named: Any) -> list[dict[str, Any]]:
    """Differences with places in per cent of a line that has 0 in its middle."""
    pairs: list[tuple[str, Difference]] = list(named)
    bounds = [abs(bound) for _, each in pairs for bound in (each.interval.low, each.interval.high, each.difference)]
    reach = max(bounds) or 1.0
    return [
        {
            "name": name,
            "difference": each,
            "verdict": verdict(each),
            "at": 50 + 50 * each.difference / reach,
            "low": 50 + 50 * each.interval.low / reach,
            "high": 50 + 50 * each.interval.high / reach,
        }
        for name, each in pairs
    ]


def _sections(
    found: Compared, entries: Mapping[int, Entry], names: Sequence[str], *, binary: bool
) -> list[dict[str, Any]]:
    """Answers that only one of two models gives, the greatest differences first."""
    a, b = found.a.name, found.b.name
    gained = [pair[0]["index"] for pair in found.flipped if pair[0]["score"] < pair[1]["score"]]
    lost = [pair[0]["index"] for pair in found.flipped[::-1] if pair[0]["score"] > pair[1]["score"]]
    parts = ((b, a, gained), (a, b, lost))
    return [
        {
            "name": f"{better} is right, {worse} is wrong" if binary else f"{better} is better than {worse}",
            "note": "the greatest differences first",
            "of": len(indices),
            "cards": [embedded_card(entries[index], names) for index in indices[:CARDS]],
        }
        for better, worse, indices in parts
        if indices
    ]


def _entry(records: Sequence[Record], models: Sequence[PredictionsFile], *, binary: bool) -> Entry:
    first, names = records[0], [model.name for model in models]
    target = first["target"]
    texts = tuple(each for each in target if isinstance(each, str))
    boxes = [] if texts else target
    group = first.get("group") or {}
    measures = {f"score, {name}": float(record["score"]) for name, record in zip(names, records, strict=True)}
    measures |= {
        f"IoU, {name}": float(record["iou"]) for name, record in zip(names, records, strict=True) if "iou" in record
    }
    if len(records) == 2:
        measures[f"{names[1]} - {names[0]}"] = records[1]["score"] - records[0]["score"]
    return Entry(
        index=first["index"],
        key=first["key"],
        question=first.get("question", ""),
        truths=texts,
        name=first["image"],
        image=_image(first["image"], models),
        size=tuple(first["image_size"]) if first.get("image_size") else None,
        true=_regions(boxes, first.get("target_points", ())),
        times=_times(first.get("target_spans", ())),
        duration=first.get("duration"),
        answers=tuple(
            CardAnswer(
                text=record["text"],
                verdict=_worth(record, binary=binary),
                regions=_regions(record.get("pred", ()), record.get("pred_points", ()), record.get("pred_labels")),
                times=_times(record.get("pred_spans", ())),
            )
            for record in records
        ),
        kinds={"right" if binary else "best": _best(records, names, binary=binary)}
        | {name: str(value) for name, value in group.items()},
        measures=measures,
    )


def _best(records: Sequence[Record], names: Sequence[str], *, binary: bool) -> str:
    """Which models answer right, or best."""
    scores = [record["score"] for record in records]
    if len(set(scores)) == 1:
        return ("all" if scores[0] else "none") if binary else "all the same"
    best = [name for name, score in zip(names, scores, strict=True) if score == max(scores)]
    return f"only {', '.join(best)}"


def _worth(record: Record, *, binary: bool) -> str:
    score = ("right" if record["score"] else "wrong") if binary else f"{record['score']:.2f}"
    if record.get("failure"):
        return f"{score}, {record['failure']}"
    return f"{score}, IoU {record['iou']:.2f}" if "iou" in record else score


def _regions(
    boxes: Sequence[Sequence[float]], points: Sequence[Sequence[float]], labels: Sequence[str | None] | None = None
) -> tuple[Region, ...]:
    named = zip(boxes, labels or [None] * len(boxes), strict=True)
    return (
        *(Box(x1=x1, y1=y1, x2=x2, y2=y2, label=label) for (x1, y1, x2, y2), label in named),
        *(Point(x=x, y=y) for x, y in points),
    )


def _times(spans: Sequence[Sequence[float]]) -> tuple[TimeSpan, ...]:
    return tuple(TimeSpan(start=start, end=end) for start, end in spans)


def _image(name: str, models: Sequence[PredictionsFile]) -> FileImage | None:
    """The image of that name; None where there is no such file, as for items with several images."""
    if Path(name).is_file():
        return FileImage(name)
    reports = [Path(f"{model.path.removesuffix(SUFFIX)}_{REPORT}") for model in models]
    copies = (copy_of(report, name) for report in reports)
    return next((FileImage(str(copy)) for copy in copies if copy is not None), None)


def _layers(entries: Sequence[Entry], names: Sequence[str], *, others: bool) -> list[dict[str, str]]:
    """What is drawn on some image."""
    shown = [entry for entry in entries if entry.image is not None]
    layers = [("true", "true", "true", any(entry.true for entry in shown))]
    layers += [
        (name, f"a{place}", f"answered a{place} c{place % 8}", any(entry.answers[place].regions for entry in shown))
        for place, name in enumerate(names)
    ]
    layers.append(("other", "other", "other", others))
    return [{"name": name, "id": ident, "classes": classes} for name, ident, classes, found in layers if found]
