"""Scores that others have published on known test sets, from `published.json`, to stand beside ours.

They differ in prompt, decoding and reading as well as in the model, see docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mllm.files import read_json
from mllm.metrics.base import Metric
from mllm.metrics.breakdown import file_of
from mllm.metrics.rec import REC
from mllm.types import Prediction


def published(metric: Metric | None, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Model, score (a share, as ours) and source; empty unless these are all items of a known file, and its metric."""
    known = _known()
    files = {file_of(prediction) for prediction in predictions}
    name = files.pop() if len(files) == 1 else ""
    is_same = isinstance(metric, REC) and metric.headline == known["metric"]
    if not is_same or known["test_sets"].get(name) != len(predictions):
        return []
    place = list(known["test_sets"]).index(name)
    return [
        {"model": model["name"], "score": round(model["scores"][place] / 100, 6), "source": model["source"]}
        for model in known["models"]
    ]


@cache
def _known() -> dict[str, Any]:
    """The metric, the items of each test set, and the scores of each model in per cent, in the order of the sets."""
    return read_json(Path(__file__).with_name("published.json"), dict)
