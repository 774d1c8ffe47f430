"""A results page: scores, failures, and answers drawn on their images.

The page alone can be mailed or archived: scores and a gallery are inside it. All answers are in a folder beside it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from mllm.images import ImageRef
from mllm.images.contact_sheet import ContactSheet
from mllm.metrics.breakdown import kinds_of
from mllm.metrics.failures import failure_of
from mllm.metrics.outcome import WITHOUT_METRIC, Outcome
from mllm.metrics.rec import THRESHOLDS, is_on_another
from mllm.metrics.statistics import Interval
from mllm.report import page
from mllm.report.gallery import CardAnswer, Entry, Region, embedded_card, write_data
from mllm.types import Box, Point, Prediction

Shape = TypeVar("Shape", Box, Point, Box | Point)

BINS = 20
"""Of the IoU histogram: 0.05 wide, open on the left, so that what lies right of a threshold has passed it."""

ANSWER, READ, ELSEWHERE = "answer", "readable", "wrong_object"
"""The name of the kinds of answers, and those beside the classes of failure."""
PREDICTED = "predicted"
DRAWN_LAYERS = {
    "true": {"id": "true", "classes": "true"},
    PREDICTED: {"id": "a0", "classes": "answered a0 c0"},
    "asked": {"id": "asked", "classes": "asked"},
    "other": {"id": "other", "classes": "other"},
}
"""What is drawn, with its classes in the drawing; the first of them shows and hides it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """One answered item of the report."""

    prediction: Prediction
    question: str
    """As in the item: may hold `<image>`, `<boxes>` and `<points>`."""
    image: ImageRef | None = None
    """The image to draw on; None shows the text alone."""
    image_name: str = ""
    """Rows about one image have the same."""
    places: Mapping[int, tuple[int, int]] = field(default_factory=lambda: {0: (0, 0)})
    """Where the item's images lie in `image`, by number: only boxes and points on these are drawn."""
    asked: tuple[Box | Point, ...] = ()
    """What the question's `<boxes>` and `<points>` stand for, in original pixels."""
    iou: float | None = None
    """None where IoU does not apply, as for captions."""
    score: float | None = None
    """What the metric gives for this answer alone; None where it gives none."""


def write_report(
    path: str | Path,
    *,
    title: str,
    found: Outcome,
    rows: Iterable[AnswerRow],
    subtitle: str = "",
    meanings: Mapping[str, str] | None = None,
    published: Sequence[Mapping[str, Any]] = (),
    date: str | None = None,
    limit: int = 24,
) -> None:
    """Write the page, and beside it the folder with all answers (see `gallery`); the folder of `path` exists.

    Args:
        title, subtitle: what was evaluated; the model and the config.
        found: the scores, with intervals and parts. `failure_{class}` go into a table, `constant_box_{score}` beside
            its score.
        rows: every answer; images are opened for those in the page itself, and where a browser could not open them.
        meanings: the metric's, see `mllm.metrics.base.Metric`.
        published: scores of others, see `mllm.report.published`.
        date: defaults to now.
        limit: images in each section of the gallery.

    Raises:
        DataError: an image that is shown cannot be read.
    """
    rows = sorted(rows, key=lambda row: row.prediction.index)
    meanings = {**WITHOUT_METRIC, **(meanings or {})}
    entries = _entries(rows)
    sections = _sections(rows, limit)
    shown = [
        {**section, "cards": [embedded_card(entries[row.prediction.index], (PREDICTED,)) for row in section["rows"]]}
        for section in sections
    ]
    data = write_data(Path(path), list(entries.values()), (PREDICTED,)) if rows else None
    page.write(
        path,
        "report/report.html.j2",
        title=title,
        subtitle=subtitle,
        date=date or datetime.now().strftime("%Y-%m-%d %H:%M"),
        items=len(rows),
        tiles=_tiles(found, meanings),
        failures=_failures(found.scores, meanings, (data or {}).get("kinds", {}).get(ANSWER, {})),
        headline=found.headline,
        parts=_parts(found),
        published=_beside(found, published),
        histogram=_histogram(rows),
        layers=_layers(entries.values(), data),
        data=data,
        sections=shown,
        scripts=("tables.js", "gallery.js") if data else (),
    )


def _tiles(found: Outcome, meanings: Mapping[str, str]) -> list[dict[str, object]]:
    """The scores to show as numbers, the headline first."""
    scores, headline = found.apart, found.headline
    apart = ("failure_", "constant_box_")
    names = [name for name in scores if name != "count" and not name.startswith(apart)]
    names.sort(key=lambda name: name != headline)
    return [
        {
            "name": name,
            "value": _number(scores[name]),
            "meaning": meanings.get(name, ""),
            "headline": name == headline,
            "interval": _bounds(found.interval) if name == headline else None,
            "floor": _number(scores[floor]) if (floor := f"constant_box_{name}") in scores else None,
            "floor_meaning": meanings.get(floor, "what one constant box would score"),
        }
        for name in names
    ]


def _bounds(interval: Interval | None) -> str | None:
    return None if interval is None else f"{_number(interval.low)} to {_number(interval.high)}"


def _parts(found: Outcome) -> list[dict[str, Any]]:
    """For each name a table of its values, with places in per cent of a line on which scores are drawn."""
    tables: list[dict[str, Any]] = []
    for name, parts in found.parts.items():
        top = max(1.0, *(part.interval.high if part.interval else part.score for part in parts))
        rows: list[dict[str, Any]] = []
        for part in parts:
            low, high = (part.interval.low, part.interval.high) if part.interval else (part.score, part.score)
            rows.append(
                {
                    "value": part.value,
                    "count": part.count,
                    "score": _number(float(part.score)),
                    "interval": _bounds(part.interval),
                    "at": 100 * part.score / top,
                    "low": 100 * low / top,
                    "high": 100 * high / top,
                }
            )
        tables.append({"name": name, "rows": rows})
    return tables


def _beside(found: Outcome, published: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The headline among the scores of others; nothing without such."""
    if not published or found.headline is None:
        return []
    own = {"model": "this evaluation", "score": found.scores[found.headline], "source": ""}
    return sorted([own, *published], key=lambda row: -row["score"])


def _failures(
    scores: Mapping[str, float], meanings: Mapping[str, str], kinds: Mapping[str, int]
) -> dict[str, object] | None:
    """The table of failure classes, None for a metric that has none; a metric's own classes are no kinds of answers."""
    counts = {name: int(value) for name, value in scores.items() if name.startswith("failure_")}
    if not counts:
        return None
    count = max(int(scores.get("count", 0)), 1)
    return {
        "total": sum(counts.values()),
        "rows": [
            {
                "name": name.removeprefix("failure_"),
                "meaning": meanings.get(name, ""),
                "count": found,
                "share": f"{found / count:.1%}",
                "filter": [ANSWER, kind] if kinds.get(kind := name.removeprefix("failure_")) == found else None,
            }
            for name, found in counts.items()
        ],
    }


def _histogram(rows: Sequence[AnswerRow]) -> dict[str, object] | None:
    """Bars in units of the tallest one; None when no row has an IoU."""
    edges = [(number + 1) / BINS for number in range(BINS)]
    readable, unreadable = [0] * BINS, 0
    for row in rows:
        if row.iou is None:
            continue
        if failure_of(row.prediction) is not None:
            unreadable += 1
        else:
            readable[min(bisect_left(edges, row.iou), BINS - 1)] += 1
    tallest = max(readable[0] + unreadable, *readable)
    if not tallest:
        return None
    return {
        "bars": [
            {"low": number / BINS, "high": edges[number], "count": count, "height": count / tallest}
            for number, count in enumerate(readable)
        ],
        "unreadable": {"count": unreadable, "height": unreadable / tallest},
        "tallest": tallest,
        "thresholds": THRESHOLDS,
    }


def _sections(rows: Sequence[AnswerRow], limit: int) -> list[dict[str, Any]]:
    """The gallery: the worst and the best readable boxes, those on other objects, unreadable answers, and answers
    without boxes.
    """
    scored = [row for row in rows if row.iou is not None]
    unreadable = [row for row in scored if failure_of(row.prediction) is not None]
    readable = sorted((row for row in scored if failure_of(row.prediction) is None), key=lambda row: row.iou or 0.0)
    elsewhere = [row for row in readable if is_on_another(row.prediction)]
    half = min(limit, (len(readable) + 1) // 2)  # no answer in both, where there are few
    texts = [row for row in rows if row.iou is None]
    sections = (
        ("Worst", "lowest IoU among the readable answers", readable, readable[:half]),
        ("Best", "highest IoU", readable, readable[half:][::-1][:limit]),
        ("On another object", "the box fits another object of the image", elsewhere, _spread(elsewhere, limit)),
        ("Unreadable answers", "no single box could be read; IoU counts as 0", unreadable, _spread(unreadable, limit)),
        ("Answers", "evenly spaced over the dataset", texts, _spread(texts, limit)),
    )
    return [{"name": name, "note": note, "of": len(of), "rows": shown} for name, note, of, shown in sections if shown]


def _spread(rows: Sequence[AnswerRow], limit: int) -> list[AnswerRow]:
    """At most `limit` rows, evenly spaced."""
    count = min(limit, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]


def _entries(rows: Sequence[AnswerRow]) -> dict[int, Entry]:
    """What the page shows of each row, by index."""
    kinds = kinds_of([row.prediction for row in rows])
    return {
        row.prediction.index: _entry(row, {name: values[place] for name, values in kinds.items()})
        for place, row in enumerate(rows)
    }


def _entry(row: AnswerRow, kinds: Mapping[str, str]) -> Entry:
    prediction, truth = row.prediction, row.prediction.truth
    failure = failure_of(prediction)
    regions = _drawn((*prediction.boxes, *prediction.points), row)
    measures = {"IoU": row.iou, "score": row.score}
    if truth.boxes or truth.points or truth.time_spans or truth.no_target:
        on_another = row.iou is not None and is_on_another(prediction)
        kinds = {ANSWER: failure or (ELSEWHERE if on_another else READ), **kinds}
    return Entry(
        index=prediction.index,
        key=prediction.key,
        question=row.question,
        truths=truth.texts,
        name=row.image_name or prediction.key,
        image=row.image,
        true=_drawn((*truth.boxes, *truth.points), row),
        asked=_drawn(row.asked, row),
        candidates=_drawn(truth.candidates, row),
        times=truth.time_spans,
        duration=prediction.duration,
        answers=(
            CardAnswer(
                text=prediction.text,
                verdict="" if row.iou is None else failure or f"IoU {row.iou:.2f}",
                regions=regions,
                places=_places((*prediction.boxes, *prediction.points), row),
                spans=prediction.spans if len(regions) == len(prediction.spans) else (),
                times=prediction.time_spans,
            ),
        ),
        kinds=kinds,
        measures={name: value for name, value in measures.items() if value is not None},
    )


def _layers(entries: Iterable[Entry], data: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """What is drawn on some image, or on a time line."""
    entries = list(entries)
    shown = [entry for entry in entries if entry.image is not None]
    found = {
        "true": any(entry.true for entry in shown) or any(entry.times for entry in entries),
        PREDICTED: any(entry.answers[0].regions for entry in shown) or any(entry.answers[0].times for entry in entries),
        "asked": any(entry.asked for entry in shown),
        "other": data is not None and data["others"],
    }
    return [{"name": name, **layer} for name, layer in DRAWN_LAYERS.items() if found[name]]


def _drawn(regions: Iterable[Shape], row: AnswerRow) -> tuple[Shape, ...]:
    """The regions on the images of the row's picture, in its pixels."""
    return tuple(_moved(region, *row.places[region.image]) for region in regions if region.image in row.places)


def _places(regions: Iterable[Region], row: AnswerRow) -> tuple[str, ...]:
    """Image and pixels of each region that is drawn, where the row's picture holds several images."""
    if not isinstance(row.image, ContactSheet):
        return ()
    names = dict(zip(row.image.numbers, row.image.captions, strict=True))
    found: list[str] = []
    for region in regions:
        if region.image in names:
            numbers = region.xyxy if isinstance(region, Box) else region.xy
            found.append(f"{names[region.image]}: {', '.join(f'{value:.0f}' for value in numbers)}")
    return tuple(found)


def _moved(region: Shape, x: int, y: int) -> Shape:
    if isinstance(region, Box):
        return replace(region, x1=region.x1 + x, y1=region.y1 + y, x2=region.x2 + x, y2=region.y2 + y)
    return replace(region, x=region.x + x, y=region.y + y)


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if abs(value) <= 1 else f"{value:.2f}"
