"""What a metric gives for one answer."""

from __future__ import annotations

from typing import Any

from mllm.errors import ConfigError
from mllm.metrics.base import Tallied
from mllm.registry import METRICS, REWARDS, MetricConfig
from mllm.types import Prediction


@REWARDS.register_module()
class MetricScore:
    """The score of a single answer by any metric that has one: the `score` of its line in the predictions file.

    Args:
        metric: as `data_args.compute_metric`.

    Raises:
        ConfigError: a metric that scores all answers together, such as CIDEr.
    """

    def __init__(self, *, metric: MetricConfig) -> None:
        made: Any = METRICS.make(metric)
        if not isinstance(made, Tallied):
            name = type(made).__name__
            raise ConfigError(field="metric", expected="a metric that scores each answer by itself", found=repr(name))
        self.metric = made

    def __call__(self, prediction: Prediction) -> float:
        return self.metric.value(prediction)
