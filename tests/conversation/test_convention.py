from __future__ import annotations

from typing import Any

import pytest

from mllm.conversation.convention import ConversionError, make_convention, read_convention
from mllm.errors import ConfigError

WIDE = (1000, 500)


@pytest.mark.parametrize(
    ("config", "canvas"),
    [
        ("shikra", (336, 336)),
        ("paligemma", (336, 336)),
        ("internvl", WIDE),
        ("qwen25_vl", (1008, 504)),
        (dict(codec="shikra"), (336, 336)),
        (dict(codec="shikra", placement="squash", image_size=100), (100, 100)),
        (dict(codec=dict(type="shikra", digits=2)), (336, 336)),
        (dict(codec="qwen25_vl", max_pixels=200_000), (616, 308)),
        (dict(codec="qwen25_vl", placement="pad", image_size=50), (50, 50)),
    ],
)
def test_read_convention(config: str | dict[str, Any], canvas: tuple[int, int]) -> None:
    assert read_convention(config).on(WIDE).frame.canvas == canvas


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("intern", "unknown region codec type 'intern'; did you mean 'internvl'"),
        ({}, "codec: expected a region codec, dict\\(type=...\\), found nothing"),
        (dict(codec="shikra", palcement="pad"), "palcement: unknown name; did you mean 'placement'"),
        (dict(codec="shikra", placement="padd"), "placement: expected one of .*, found str 'padd'; did you mean 'pad'"),
        (dict(codec="shikra", image_size=0), "image_size: expected a whole number of at least 1, found int '0'"),
        (dict(codec="shikra", image_size="336"), "image_size: expected a whole number of at least 1, found str '336'"),
        (dict(codec=7), "codec: expected a region codec, dict\\(type=...\\), found int '7'"),
        (dict(codec="qwen25_vl", min_pixels=9, max_pixels=8), "min_pixels: expected at most max_pixels, 8, found 9"),
        (dict(codec=dict(type="shikra", digit=2)), "codec.digit: unknown name; did you mean 'digits'"),
    ],
)
def test_read_convention_names_a_wrong_key(config: str | dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_convention(config)


def test_an_image_without_an_aspect_placement_is_named() -> None:
    with pytest.raises(ConversionError, match="an image of 9000 x 10 pixels has no aspect placement: absolute aspect"):
        make_convention("qwen25_vl").on((9000, 10))
