"""mmengine: how `--cfg-options` reads values, as users of it know them."""

from __future__ import annotations

from typing import Any

from mllm.compat.names import member


def read_list(text: str) -> Any:
    """The value of `a,b`, `[a,b]` or `(1,[x,y])`.

    Raises:
        ValueError: brackets that do not match, are nested too deep, or hold all commas behind a text: `f(a,b)`.
    """
    from mmengine.config import DictAction  # it takes a third of a second

    try:
        return member(DictAction, "_parse_iterable")(text)
    except AssertionError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError(f"cannot read {text[:60]!r} as a list") from error


def read_scalar(text: str) -> Any:
    """An int, a float, a truth value, None, or the text itself."""
    from mmengine.config import DictAction

    return member(DictAction, "_parse_int_float_bool")(text)
