"""Marks: cases that are slow and run with `make test-slow`, tests of one version of a library."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import pytest

REQUIREMENTS = (Path(__file__).parents[1] / "requirements.txt").read_text(encoding="utf-8")
of_this_transformers = pytest.mark.skipif(
    f"transformers=={version('transformers')}" not in REQUIREMENTS.split(),
    reason="the lists in the docs are of the types that transformers of requirements.txt has",
)


def slow_but(fast: Container[Any], cases: Iterable[Any]) -> list[Any]:
    """The cases, tuples where a test takes several arguments; those that are not among the fast ones are slow."""
    return [case if case in fast else _slow(case) for case in cases]


def _slow(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)


def grid(*axes: Sequence[Any]) -> list[Any]:
    """All combinations of the values of the axes; fast are as few as hold each value."""
    assert not any(hasattr(value, "marks") for axis in axes for value in axis), "plain values, no pytest.param"
    longest = max(axes, key=len)
    fast = [tuple(number % len(axis) for axis in axes) for number in range(len(longest))]
    return [
        pytest.param(
            *(axis[number] for axis, number in zip(axes, numbers, strict=True)),
            marks=() if numbers in fast else pytest.mark.slow,
        )
        for numbers in product(*(range(len(axis)) for axis in axes))
    ]
