"""One page for all test sets of a folder: a table of their headlines with intervals, each with a link to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mllm.errors import DataError
from mllm.files import read_json
from mllm.metrics.outcome import RESULTS
from mllm.report import page

REPORT = INDEX = "report.html"
"""The page of a test set, behind its name and `_`; by itself that of all test sets."""


def write_index(folder: Path) -> Path | None:
    """Write `report.html` over the results in a folder; None, and no page, where there is one test set at most."""
    rows = [row for path in sorted(folder.glob(f"*_{RESULTS}")) if (row := _row(path)) is not None]
    if len(rows) < 2:
        return None
    top = max(1.0, *(row["high"] for row in rows))
    for row in rows:
        row |= {name: 100 * row[name] / top for name in ("at", "low", "high")}
    models = {row["model"] for row in rows}
    target = folder / INDEX
    page.write(
        target,
        "report/index.html.j2",
        title=folder.resolve().name,
        subtitle=models.pop() if len(models) == 1 else "several models",
        date=datetime.now().strftime("%Y-%m-%d %H:%M"),
        rows=rows,
        published=_published(rows),
        scripts=("tables.js",),
    )
    return target


def _published(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A line for each model with its published scores on the test sets that have such, ours first; None without."""
    sets = [row for row in rows if row["published"]]
    if not sets:
        return None
    models = dict.fromkeys(each["model"] for row in sets for each in row["published"])
    sources = {each["model"]: each["source"] for row in sets for each in row["published"]}
    scores = {(row["name"], each["model"]): f"{each['score']:.4f}" for row in sets for each in row["published"]}
    return {
        "sets": [{"name": row["name"], "score": row["score"]} for row in sets],
        "models": [
            {
                "name": model,
                "source": sources[model],
                "scores": [scores.get((row["name"], model), "") for row in sets],
            }
            for model in models
        ],
    }


def _row(path: Path) -> dict[str, Any] | None:
    """A test set of the table; None for results without a headline, as of an earlier version, or a loss alone."""
    record = read_json(path, dict, DataError)
    headline, prefix = record.get("headline"), path.name.removesuffix(f"_{RESULTS}")
    if headline is None:
        return None
    score = float(record[headline])
    name = headline.removeprefix(f"{prefix}_")
    low, high = record.get("intervals", {}).get(headline, (score, score))
    floor = record.get(f"{prefix}_constant_box_{name}", record.get(f"{prefix}_chance"))
    failed = sum(int(value) for key, value in record.items() if key.startswith(f"{prefix}_failure_"))
    report = path.with_name(f"{prefix}_{REPORT}")
    return {
        "name": prefix.removeprefix("multitest_"),
        "href": report.name if report.exists() else None,
        "metric": name,
        "score": f"{score:.4f}",
        "interval": f"{low:.4f} to {high:.4f}" if headline in record.get("intervals", {}) else "",
        "floor": "" if floor is None else f"{floor:.4f}",
        "count": f"{int(record.get(f'{prefix}_count', 0)):,}",
        "failed": f"{failed:,}",
        "at": score,
        "low": low,
        "high": high,
        "published": record.get("published", []),
        "model": _model(record.get("about", {}).get("model", {})),
    }


def _model(model: Mapping[str, object]) -> str:
    if "api" in model:
        return f"{model['name']} at {model['api']}"
    return f"{model.get('type')}: {model.get('model_name_or_path') or 'trained from its parts'}"
