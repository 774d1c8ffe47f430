"""What every reward does, and how the rewards of an answer are found.

A reward is a function of one answer, read back and typed, with the ground truth of its item beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Protocol

from mllm.errors import DataError, MllmError, one_line
from mllm.fields import show
from mllm.types import BOXES, POINTS, Prediction

RAISED = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What the code of a reward may raise by mistake."""

Rewards = Mapping[str, "Reward"]
"""By the names that logs give them."""


class Reward(Protocol):
    """What an answer is worth, on any scale."""

    def __call__(self, prediction: Prediction) -> float | None:
        """None: this reward says nothing about such an item, as one for boxes about an item without."""
        ...


def score(rewards: Rewards, prediction: Prediction) -> dict[str, float | None]:
    """Each reward of an answer, by name.

    Raises:
        DataError: a reward raises, or what it gives is no finite number; names the item and the reward.
    """
    return {name: _value(name, reward, prediction) for name, reward in rewards.items()}


def mean(values: Sequence[float | None]) -> float | None:
    """Of the values that there are."""
    given = [value for value in values if value is not None]
    return math.fsum(given) / len(given) if given else None


def in_words(prediction: Prediction) -> bool:
    """Whether the truth is a text that stands without regions."""
    texts = prediction.truth.texts
    return bool(texts) and not any(mark in text for mark in (BOXES, POINTS) for text in texts)


def _value(name: str, reward: Reward, prediction: Prediction) -> float | None:
    field = f"reward '{name}'"
    try:
        value = reward(prediction)
    except MllmError as error:
        raise error.inside(field).at(prediction.key) from error
    except RAISED as error:
        said = f"raised {type(error).__name__}: {one_line(error, 300)}"
        raise DataError(said, where=prediction.key, field=field) from error
    if value is None:
        return None
    if not isinstance(value, Real) or not math.isfinite(value):
        raise DataError(where=prediction.key, field=field, expected="a finite number, or None", found=show(value))
    return float(value)
