"""The square of patches that the features of an image come from."""

from __future__ import annotations

from math import isqrt

from mllm.errors import ConfigError


def grid_side(tokens: int) -> int:
    """Patches along one side of the square that `tokens` features make.

    Raises:
        ConfigError: they make none.
    """
    side = isqrt(tokens)
    if side**2 != tokens:
        raise ConfigError(
            "is keep_cls set?",
            field="connector",
            expected="a square of patches",
            found=f"{tokens} features of an image",
        )
    return side
