from __future__ import annotations

from typing import Any

import pytest

from mllm.conversation.convention import Convention, ConversionError, make_convention, read_convention
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


@pytest.mark.parametrize(
    ("config", "scale", "offset"),
    [
        ("shikra", (0.336, 0.336), (0, 84)),
        ("paligemma", (0.336, 0.672), (0, 0)),
        (dict(codec="shikra", placement="crop", image_size=100), (0.2, 0.2), (-50, 0)),
        (dict(codec="shikra", placement="aspect"), (1.008, 1.008), (0, 0)),
    ],
)
def test_an_image_is_laid_out_as_the_family_does_it(
    config: str | dict[str, Any], scale: tuple[float, float], offset: tuple[float, float]
) -> None:
    frame = read_convention(config).on(WIDE).frame
    assert (frame.scale, frame.offset) == (pytest.approx(scale), pytest.approx(offset))


def test_a_convention_has_the_name_of_its_codec_and_calls_images_by_number_where_it_is_told() -> None:
    plain = make_convention("shikra")
    assert (plain.name, plain.image_numbers, plain.on(WIDE).image) == ("shikra", False, 0)
    assert Convention(name="x", codec=plain.codec, placement=plain.placement).image_numbers is False
    numbered = read_convention(dict(codec=dict(type="shikra", digits=2), image_numbers=True))
    assert (numbered.name, numbered.image_numbers, numbered.on(WIDE, image=2).image) == ("shikra", True, 2)


def test_bounds_of_an_area_may_be_equal() -> None:
    made = make_convention("qwen25_vl", min_pixels=28 * 28 * 8, max_pixels=28 * 28 * 8)
    assert made.on(WIDE).frame.canvas == (112, 56)
