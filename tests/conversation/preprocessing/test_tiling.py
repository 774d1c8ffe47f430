"""Tiles: pixels and numbers of tokens are LLaVA-NeXT's, coordinates come back, wrong settings are named."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.preprocessing.tiling import AnyResolution, TiledPreprocessor, Tiling, read_tiling
from mllm.errors import ConfigError
from mllm.geometry import place

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
NEXT: dict[str, Any] = {"type": "any_resolution", "pinpoints": PINPOINTS}
SIZES = st.tuples(st.integers(1, 2000), st.integers(1, 2000))


def view(tiling: dict[str, Any] | Tiling, **changes: Any) -> TiledPreprocessor:
    tiling = read_tiling(tiling) if isinstance(tiling, dict) else tiling
    given: dict[str, Any] = {"side": 336, "mean": MEAN, "std": STD, "tokens": 576, "grid": 24, **changes}
    return TiledPreprocessor(tiling=tiling, **given)


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def small(**changes: Any) -> TiledPreprocessor:
    points = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    return view({**NEXT, "pinpoints": points}, side=28, tokens=4, grid=2, **changes)


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (57, 57), (300, 41), (13, 90), (28, 28), (56, 55), (3, 200)])
def test_pixels_are_llava_nexts(size: tuple[int, int]) -> None:
    theirs = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_grid_pinpoints=[[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]],
    )(noise(size), return_tensors="pt")
    ours = small()(noise(size))
    assert ours["pixels"].shape == theirs["pixel_values"][0].shape
    assert torch.allclose(ours["pixels"], theirs["pixel_values"][0], atol=1e-5)
    assert ours["image_sizes"].tolist() == theirs["image_sizes"].flip(1).tolist() == [list(size)]


@given(size=SIZES, grid=st.sampled_from([24, 27, 16]))
def test_as_many_tokens_as_llava_nexts_processor(size: tuple[int, int], grid: int) -> None:
    side = 14 * grid
    points = [[h // 336 * side, w // 336 * side] for h, w in PINPOINTS]
    processor = LlavaNextProcessor.__new__(LlavaNextProcessor)  # without the tokenizer that its arithmetic does not use
    processor.image_processor = LlavaNextImageProcessorPil(image_grid_pinpoints=points)
    processor.patch_size, processor.num_additional_image_tokens = 14, 0
    ours = view({**NEXT, "pinpoints": points}, side=side, tokens=grid**2, grid=grid)
    try:
        expected = processor._get_number_of_features(size[1], size[0], side, side)
    except TypeError:  # so narrow that it finds no canvas
        assume(False)
    assert ours.placeholder_tokens(size).count(ours.token) == expected


@pytest.mark.parametrize("kind", ["pad", "squash"])
@pytest.mark.parametrize(
    "tiling", [NEXT, {"type": "crops", "rows": 2, "columns": 2}, {"type": "crops", "rows": 1, "columns": 3}]
)
@given(size=SIZES, x=st.floats(0, 1), y=st.floats(0, 1))
def test_coordinates_come_back(tiling: Any, kind: Any, size: tuple[int, int], x: float, y: float) -> None:
    placement = view(tiling, placement=kind).placement(size)
    x, y = x * size[0], y * size[1]
    u, v = placement.to_unit(x, y)
    assert all(-1e-9 <= fraction <= 1 + 1e-9 for fraction in (u, v))
    assert placement.from_unit(u, v) == pytest.approx((x, y), abs=1e-6)


@pytest.mark.parametrize("kind", ["pad", "squash"])
@given(size=SIZES, x=st.floats(0, 1), y=st.floats(0, 1))
def test_any_resolution_speaks_the_coordinates_of_a_square(kind: Any, size: Any, x: float, y: float) -> None:
    tiled, square = view(NEXT, placement=kind).placement(size), place(kind, size, 336)
    x, y = x * size[0], y * size[1]
    assert tiled.to_unit(x, y) == pytest.approx(square.to_unit(x, y), abs=1e-9)


@pytest.mark.parametrize("kind", ["pad", "squash"])
@pytest.mark.parametrize("tiling", ["any", {"type": "crops", "rows": 2, "columns": 2}])
@pytest.mark.parametrize("size", [(96, 64), (64, 96), (200, 50)])
def test_pixels_lie_where_the_placement_says(tiling: Any, kind: Any, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (30, 20, 46, 46))
    black = {"mean": (0, 0, 0), "std": (1, 1, 1), "placement": kind}
    seen = small(**black) if tiling == "any" else view(tiling, side=28, tokens=4, grid=2, **black)
    placement = seen.placement(size)
    arranged = seen.preview(image)
    assert arranged.size == placement.canvas
    rows, columns = np.nonzero(np.asarray(arranged)[:, :, 0] > 127)
    corners = placement.forward(30, 20), placement.forward(46, 46)
    assert (columns.min(), rows.min()) == pytest.approx(corners[0], abs=1)
    assert (columns.max() + 1, rows.max() + 1) == pytest.approx(corners[1], abs=1)


def test_crops_are_the_quarters_of_the_padded_square_after_the_whole() -> None:
    image = noise((40, 56))
    tiles = view({"type": "crops", "rows": 2, "columns": 2}, side=28)(image)["pixels"]
    whole = SquarePreprocessor(size=56, mean=MEAN, std=STD, tokens=1)(image)["pixels"][0]
    assert len(tiles) == 5
    torch.testing.assert_close(torch.cat([torch.cat([*tiles[1:3]], 2), torch.cat([*tiles[3:]], 2)], 1), whole)
    bare = view({"type": "crops", "rows": 2, "columns": 2, "thumbnail": False}, side=28)(image)["pixels"]
    torch.testing.assert_close(bare, tiles[1:])


@pytest.mark.parametrize(
    ("tiling", "size", "tokens"),
    [
        (NEXT, (672, 672), 576 + 48 * 49),
        (NEXT, (672, 336), 576 + 24 * 49),
        (NEXT, (640, 480), 576 + 36 * 49),
        ({**NEXT, "unpad": False}, (640, 480), 576 + 48 * 49),
        ({**NEXT, "newline": False}, (640, 480), 576 + 36 * 48),
        ({**NEXT, "unpad": False, "newline": False, "aspect": "squash"}, (640, 480), 5 * 576),
        ({"type": "crops", "rows": 2, "columns": 3}, (640, 480), 7 * 576),
        ({"type": "crops", "rows": 2, "columns": 3, "thumbnail": False}, (640, 480), 6 * 576),
    ],
)
def test_tokens_of_an_image(tiling: Any, size: tuple[int, int], tokens: int) -> None:
    assert len(view(tiling).placeholder_tokens(size)) == tokens * len(SquarePreprocessor.token)


def test_a_worker_gets_the_same_view() -> None:
    ours = small()
    again = pickle.loads(pickle.dumps(ours))  # noqa: S301, our own
    image = noise((50, 31))
    torch.testing.assert_close(again(image), ours(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("any_resolution", "expected a dict, found str 'any_resolution'"),
        (
            {"type": "any_resolutions"},
            "type: expected one of .*, found str 'any_resolutions'; did you mean 'any_resolution'?",
        ),
        (
            {"type": "any_resolution"},
            "pinpoints: expected a non-empty list of lists of 2 whole numbers from 1 to 16,384, found nothing",
        ),
        ({**NEXT, "unpadded": True}, "unpadded: unknown name; did you mean 'unpad'?"),
        (
            {**NEXT, "pinpoints": []},
            r"pinpoints: expected a non-empty list of lists of 2 whole numbers from 1 to 16,384, found list '\[\]'",
        ),
        (
            {**NEXT, "pinpoints": [[336]]},
            r"pinpoints\.0: expected a list of 2 whole numbers from 1 to 16,384, found list '\[336\]'",
        ),
        ({**NEXT, "aspect": "crop"}, "aspect: expected one of 'pad', 'squash', found str 'crop'"),
        ({**NEXT, "aspect": "squash"}, "unpad: has no effect with aspect='squash'; set unpad=False"),
        ({"type": "crops", "rows": 0, "columns": 2}, "rows: expected a whole number from 1 to 64, found int '0'"),
    ],
)
def test_wrong_settings(section: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_tiling(section)


def test_pinpoints_that_tiles_do_not_fill() -> None:
    with pytest.raises(ConfigError, match=r"expected multiples of the tile's side, 384 pixels, found \[336, 672\]"):
        AnyResolution(pinpoints=[(336, 672)]).check(384)


@pytest.mark.parametrize("tiling", [NEXT, {"type": "crops", "rows": 1, "columns": 2}])
def test_a_crop_would_hide_what_tiles_are_to_show(tiling: Any) -> None:
    with pytest.raises(ConfigError, match=r"placement: expected 'pad' or 'squash' with tiling .*, found 'crop'"):
        view(tiling, placement="crop")
