"""What is asked of any section of a config."""

from __future__ import annotations

from mllm.config.sections import texts


def test_texts_are_all_but_the_empty_ones() -> None:
    """An empty one would be the working directory, if somebody took it for a path."""
    assert texts({"a": "x", "b": [{"c": ("y", "")}, 1, None], "d": ""}) == ["x", "y"]
    assert texts(None) == []
