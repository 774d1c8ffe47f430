from __future__ import annotations

from typing import Any

import pytest

from mllm.compat import mmengine


def test_read_list() -> None:
    assert mmengine.read_list("[a,b]") == ["a", "b"]
    assert mmengine.read_list("(1,[x,y])") == (1, ["x", "y"])
    with pytest.raises(ValueError, match=r"."):
        mmengine.read_list("[a,(b]")


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("1e-5", 1e-5), ("true", True), ("None", None), ("a b", "a b")])
def test_read_scalar(text: str, value: Any) -> None:
    assert mmengine.read_scalar(text) == value
    assert type(mmengine.read_scalar(text)) is type(value)
