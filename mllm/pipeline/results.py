"""What an evaluation leaves behind: predictions line by line, scores, the report page."""

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
from mllm.types import Prediction

PREDICTIONS, RESULTS, REPORT = "extra_prediction.jsonl", "results.json", "report.html"
"""The files of an evaluation, behind its prefix. What is not whole yet has `PARTIAL` at the end of its name."""
PARTIAL = ".partial"


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
