"""What every reward does, and how the rewards of an answer are found.

A reward is a function of one answer, read back and typed, with the ground truth of its item beside it.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Protocol

from mllm.errors import DataError, MllmError, one_line
from mllm.fields import show
from mllm.types import BOXES, POINTS, Prediction

Rewards = Mapping[str, "Reward"]
"""By the names that logs give them."""


class Reward(Protocol):
    """What an answer is worth, on any scale."""

    def __call__(self, prediction: Prediction) -> float | None:
        """None: this reward says nothing about such an item, as one for boxes about an item without."""
        ...


def score_answer(rewards: Rewards, prediction: Prediction) -> dict[str, float | None]:
    """Each reward of an answer, by name.

    Raises:
        DataError: a reward raises, or what it gives is no finite number; names the item, the reward and the line.
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
    except Exception as error:  # a reward of a user may raise anything, and the item is known here
        said = f"raised {type(error).__name__}: {one_line(error, 300)}, {_place(error)}"
        raise DataError(said, where=prediction.key, field=field) from error
    if value is None:
        return None
    if not _is_finite(value):
        raise DataError(where=prediction.key, field=field, expected="a finite number, or None", found=show(value))
    return float(value)


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # more than a float holds
        return False


def _place(error: Exception) -> str:
    """Where in the reward's own file the error came up."""
    _, *frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f"in {own[-1].filename}:{own[-1].lineno}" if own else "when it was called"
