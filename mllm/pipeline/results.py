"""What an evaluation leaves behind: predictions line by line, scores, the report page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mllm.errors import ConfigError
from mllm.fields import show
from mllm.files import complete_lines, parse_json, read_json
from mllm.interrupts import Interrupted
from mllm.metrics.base import Metric
from mllm.metrics.outcome import PREDICTIONS, RESULTS, ImageIds, Outcome, as_record, check_record
from mllm.pipeline.train_data import ItemDataset
from mllm.report.gallery import data_folder
from mllm.report.index import REPORT, write_index
from mllm.report.published import published
from mllm.report.report import write_report
from mllm.report.rows import answer_rows
from mllm.types import Prediction

PARTIAL, OLD = ".partial", ".old"
"""What is not whole yet has the one at the end of its name; what is not continued, both."""
EVALUATION_RECORD = "about.json"
"""What unfinished predictions are of: an evaluation goes on with them only if it is of the same."""
RESUMED_IF_EQUAL = ("model", "data", "codec", "template", "placement", "image_numbers", "generation", "ranking")
"""What must be equal for that."""


def resumable(folder: Path, prefix: str, items: ItemDataset, about: Mapping[str, object]) -> list[Mapping[str, Any]]:
    """The records of the first answers, as far as an evaluation of the same model and items has left them here.

    Raises:
        ConfigError: they are of something else; names what.
    """
    path, described = (folder / f"{prefix}_{name}{PARTIAL}" for name in (PREDICTIONS, EVALUATION_RECORD))
    if not path.exists():
        return []
    before = read_json(described, dict, ConfigError)
    for name in RESUMED_IF_EQUAL:
        expected, found = (_known(each, name) for each in (before, about))
        if expected != found:
            expected, found = show(expected), show(found)
            message = "leave --resume out to begin anew"
            raise ConfigError(where=str(path), field=name, expected=expected, found=found, message=message)
    records: list[Mapping[str, Any]] = []
    for line in complete_lines(path):
        record = parse_json(line.decode("utf-8"), dict, f"{path}:{len(records) + 1}", ConfigError)
        if record.get("key") != items[len(records)].key:
            where, expected = f"{path}:{len(records) + 1}", show(items[len(records)].key)
            raise ConfigError(where=where, field="key", expected=expected, found=show(record.get("key")))
        check_record(record, f"{path}:{len(records) + 1}")
        records.append(record)
    return records


def _known(about: Mapping[str, object], name: str) -> Any:
    """Of a model its weights: a folder may have been moved."""
    value = about.get(name)
    return value.get("weights", value) if name == "model" and isinstance(value, Mapping) else value


def write_predictions(
    predictions: Iterable[Prediction],
    folder: Path,
    prefix: str,
    items: ItemDataset,
    metric: Metric | None,
    *,
    about: Mapping[str, object],
    kept: int = 0,
) -> Iterator[Prediction]:
    """Pass predictions of `items` through, each written as it comes, one JSON object a line.

    `about` says what they are of; the first `kept` lines of an earlier evaluation stay. Those of one that is not
    continued are moved aside, to `.old`. `write_results` gives the file its final name.

    Raises:
        Interrupted: as `predictions` does; says how many there are, and where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}_{PREDICTIONS}{PARTIAL}"
    (folder / f"{prefix}_{EVALUATION_RECORD}{PARTIAL}").write_text(json.dumps(about), encoding="utf-8")
    written, image_of = kept, ImageIds()
    for index in range(kept):
        image_of(items[index])
    if path.exists() and not kept:
        path.replace(path.with_name(path.name + OLD))
    with path.open("r+b" if kept else "wb") as old:
        old.truncate(sum(map(len, islice(old, kept))))
    with path.open("a", encoding="utf-8") as file:
        try:
            for prediction in predictions:
                item = items[prediction.index]
                question = item.prompt[-1].text
                record = as_record(prediction, image=image_of(item), question=question, metric=metric)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()
                written += 1
                yield prediction
        except Interrupted as error:
            answers = f"its first {written} answers are in {path}"
            error.message = f"the evaluation is not finished: {answers}; --resume goes on from there"
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
    provenance: Mapping[str, object],
) -> None:
    """The report, `{prefix}_results.json` with the scores, keys prefixed, and the predictions under their final name.

    Of several test sets also `report.html` over all of them.

    `provenance` says what the scores are of, see `mllm.pipeline.provenance`.

    They take the place of those of an earlier evaluation all together. Without `predictions` only a loss was asked for.
    """
    others = published(metric, predictions)
    record = {**found.as_json(prefix), **({"published": others} if others else {}), "about": provenance}
    paths = [folder / f"{prefix}_{name}" for name in (PREDICTIONS, REPORT, RESULTS)]
    partial = [path.with_name(path.name + PARTIAL) for path in paths]
    partial[2].write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    write_report(
        partial[1],
        title=f"{folder.name}: {prefix}",
        subtitle=about,
        found=found,
        rows=answer_rows(predictions, items, metric),
        published=others,
        meanings=metric.meanings if metric else None,
    )
    if not predictions:
        partial[0].unlink(missing_ok=True)
    (folder / f"{prefix}_{EVALUATION_RECORD}{PARTIAL}").unlink(missing_ok=True)
    paths, partial = ([*files, data_folder(files[1])] for files in (paths, partial))
    for path in reversed(paths):  # whoever finds scores also finds what they are of
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path, whole in zip(paths, partial, strict=True):
        if whole.exists():
            whole.replace(path)
    write_index(folder)
