"""What an evaluation leaves behind: predictions line by line, scores, the report page, a summary for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mllm.interrupts import Interrupted
from mllm.metrics.base import Metric
from mllm.metrics.outcome import ImageNames, Outcome, as_record
from mllm.metrics.rec import iou_of
from mllm.pipeline.train_data import ItemDataset
from mllm.report.report import Row, write_report
from mllm.report.tables import table
from mllm.types import Prediction

PREDICTIONS, RESULTS, REPORT = "extra_prediction.jsonl", "results.json", "report.html"
"""The files of an evaluation, behind its prefix. What is not whole yet has `PARTIAL` at the end of its name."""
PARTIAL = ".partial"
MOST_PARTS = 12
"""Parts of a data set that the terminal lists."""
SAID = {"failure_none": "nothing to read"}
"""Names of scores for the terminal, where that of the files reads as something else."""


def write_predictions(
    predictions: Iterable[Prediction], folder: Path, prefix: str, items: ItemDataset, metric: Metric | None
) -> Iterator[Prediction]:
    """Pass predictions of `items` through, each written as it comes, one JSON object a line.

    `write_results` gives the file its final name.

    Raises:
        Interrupted: as `predictions` does; says how many there are, and where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}_{PREDICTIONS}{PARTIAL}"
    written, image_of = 0, ImageNames()
    with path.open("w", encoding="utf-8") as file:
        try:
            for prediction in predictions:
                record = as_record(prediction, image=image_of(items[prediction.index]), metric=metric)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()
                written += 1
                yield prediction
        except Interrupted as error:
            error.message = f"the evaluation is not finished: its first {written} answers are in {path}"
            raise


def write_results(
    folder: Path,
    prefix: str,
    found: Outcome,
    predictions: Sequence[Prediction],
    items: ItemDataset,
    metric: Metric | None,
    *,
    about: str,
    provenance: Mapping[str, Any],
) -> None:
    """The report, `{prefix}_results.json` with the scores, keys prefixed, and the predictions under their final name.

    `provenance` says what the scores are of, see `mllm.pipeline.provenance`.

    They take the place of those of an earlier evaluation all together. Without `predictions` only a loss was asked for.
    """
    record = {**found.as_json(prefix), "about": provenance}
    paths = [folder / f"{prefix}_{name}" for name in (PREDICTIONS, REPORT, RESULTS)]
    partial = [path.with_name(path.name + PARTIAL) for path in paths]
    partial[2].write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    write_report(
        partial[1],
        title=f"{folder.name}: {prefix}",
        subtitle=about,
        found=found,
        rows=rows(predictions, items),
        meanings=metric.meanings if metric else None,
    )
    if not predictions:
        partial[0].unlink(missing_ok=True)
    for path in reversed(paths):  # whoever finds scores also finds what they are of
        path.unlink(missing_ok=True)
    for path, whole in zip(paths, partial, strict=True):
        if whole.exists():
            whole.replace(path)


def rows(predictions: Iterable[Prediction], items: ItemDataset) -> Iterator[Row]:
    """Each answer beside its question and the image that the question is about, which its truth lies on."""
    for prediction in predictions:
        item = items[prediction.index]
        turn = item.prompt[-1]
        number = item.answer_image
        yield Row(
            prediction=prediction,
            question=turn.text,
            image=item.images[number] if item.images else None,
            image_number=number,
            asked=(
                *(item.boxes[i] for group in turn.boxes_seq for i in group),
                *(item.points[i] for group in turn.points_seq for i in group),
            ),
            iou=iou_of(prediction) if len(prediction.truth.boxes) == 1 else None,
        )


def summary(prefix: str, found: Outcome, metric: Metric | None, report: Path | None) -> str:
    """The scores as a table, the headline with its 95 % interval and its floor first; then its parts."""
    scores = found.scores
    first = [metric.headline, f"constant_box_{metric.headline}"] if metric else []
    names = [name for name in first if name in scores] + [name for name in scores if name not in first]
    meanings = metric.meanings if metric else {}
    lines = [f"{prefix}:"]
    for name in names:
        value = scores[name]
        is_count = isinstance(value, int) or (value.is_integer() and name not in meanings)
        shown = f"{value:.0f}" if is_count else f"{value:.4f}"
        lines.append(f"  {SAID.get(name, name):24}{shown:>10}  {meanings.get(name, '')}".rstrip())
        if name == found.headline and found.interval:
            lines.append(
                f"  {'':34}  {found.interval.low:.4f} to {found.interval.high:.4f}: 95 % interval, over images"
            )
    for name, parts in found.parts.items():
        lines.append(f"  {found.headline} by {name}:")
        for part in parts[:MOST_PARTS]:
            lines.append(f"    {part.value:22.22}{part.score:>10.4f}  {part.count} items")
        if len(parts) > MOST_PARTS:
            lines.append(f"    {len(parts) - MOST_PARTS} more in the report and in {prefix}_{RESULTS}")
    if report:
        lines.append(f"  report: {report}")
    return "\n".join(lines)


def joint_summary(scores: Mapping[str, float], metrics: Mapping[str, Metric | None]) -> str:
    """A table with a line for each test set.

    Args:
        scores: of all test sets, keys with the prefix of their test set.
        metrics: by prefix.
    """
    lines = []
    for prefix, metric in metrics.items():
        own = {
            name.removeprefix(f"{prefix}_"): value for name, value in scores.items() if name.startswith(f"{prefix}_")
        }
        name = metric.headline if metric else "loss"
        floor = own.get(f"constant_box_{name}")
        failed = sum(value for key, value in own.items() if key.startswith("failure_"))
        lines.append(
            (
                prefix,
                name,
                f"{own[name]:.4f}" if name in own else "",
                "" if floor is None else f"{floor:.4f}",
                f"{own['count']:.0f}" if "count" in own else "",
                f"{failed:.0f}" if metric else "",
            )
        )
    return table(("test set", "score", "", "constant box", "count", "failures"), lines, numbers=True)
