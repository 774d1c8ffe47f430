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
from mllm.types import Prediction


def published(metric: Metric | None, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Model, score (a hundredth of what papers print) and source; empty unless these are all items of a known file, by
    its metric, and without demonstrations.
    """
    files = {file_of(prediction) for prediction in predictions}
    name = files.pop() if len(files) == 1 else ""
    for table in _tables():
        is_same = type(metric).__name__ == table["metric"] and getattr(metric, "headline", None) == table["score"]
        if is_same and table["test_sets"].get(name) == len(predictions):
            if any(prediction.demonstrations for prediction in predictions):
                return []
            place = list(table["test_sets"]).index(name)
            return [
                {"model": model["name"], "score": round(model["scores"][place] / 100, 6), "source": model["source"]}
                for model in table["models"]
            ]
    return []


@cache
def _tables() -> list[dict[str, Any]]:
    """Of each the metric and its score, the items of each test set, and the scores of each model as papers print them,
    in the order of the sets."""
    return read_json(Path(__file__).with_name("published.json"), dict)["tables"]
