from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm.conversation.conversion import Convention, ConversionError, rewrite
from mllm.conversation.region import UnitBox
from mllm.errors import ConfigError
from mllm.geometry import Placement, PlacementKind, place
from mllm.registry import REGIONS


def convention(name: str, kind: PlacementKind = "pad", side: int = 1000) -> Convention:
    return Convention(name=name, codec=REGIONS.make(name), placement=lambda size: place(kind, size, side))


SQUARE = (1000, 1000)
WIDE = (1000, 500)


@pytest.mark.parametrize(
    ("source", "target", "text", "expected"),
    [
        ("shikra", "ferret", "It is [0.100,0.300,0.500,0.700] .", "It is [100, 100, 500, 900] ."),
        ("ferret", "shikra", "It is [100, 100, 500, 900] .", "It is [0.100,0.300,0.500,0.700] ."),
        ("shikra", "qwen3_vl", "at [0.100,0.300]!", 'at {"point_2d": [100, 100]}!'),
        ("shikra", "gemini", "[0.1,0.3,0.5,0.7]", '{"box_2d": [100, 100, 900, 500]}'),
        ("internvl", "kosmos2", "<ref>a dog</ref><box>[[0, 0, 1000, 1000]]</box> runs",
         "a dog <object><patch_index_0000><patch_index_1023></object> runs"),
        ("qwen3_vl", "llava15", '```json\n[{"bbox_2d": [0, 0, 1000, 1000], "label": "dog"}]\n```',
         "dog [0.00, 0.25, 1.00, 0.75]"),
        ("paligemma", "shikra", "<loc0256><loc0000><loc0767><loc1023> cat ; <loc0256><loc0000><loc0767><loc1023> dog",
         "[0.000,0.250,1.000,0.750] cat ; [0.000,0.250,1.000,0.750] dog"),
        ("shikra", "ferret", "2 dogs {and} <b>", "2 dogs {and} <b>"),
    ],
)  # fmt: skip
def test_regions_change_their_form_and_frame_and_words_stay(source: str, target: str, text: str, expected: str) -> None:
    """A 1000 x 500 picture lies in the middle half of its padded square."""
    written, groups = rewrite(text, lambda: WIDE, source=convention(source), target=convention(target))
    assert written == expected
    assert groups == (text != expected) * (2 if ";" in text and source == "paligemma" else 1)


def test_each_codec_has_its_own_canvas() -> None:
    target = convention("qwen25_vl", "squash", 500)
    written, _ = rewrite("[0.100,0.300,0.500,0.700]", lambda: WIDE, source=convention("shikra"), target=target)
    assert written == '{"bbox_2d": [50, 50, 250, 450]}'


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(8, 2000), st.integers(8, 2000)),
    names=st.permutations(["shikra", "bins", "ferret", "qwen2_vl", "qwen25_vl", "florence2", "paligemma", "gemini"]),
    kinds=st.tuples(st.sampled_from(["pad", "squash"]), st.sampled_from(["pad", "squash"])),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_box_stays_where_it_is_within_both_bounds(
    size: tuple[int, int], names: list[str], kinds: tuple[PlacementKind, PlacementKind], corners: tuple[float, ...]
) -> None:
    """In original pixels: what both readings are apart is at most what one writing may move it."""
    source, target = convention(names[0], kinds[0]), convention(names[1], kinds[1])
    (x1, x2), (y1, y2) = sorted(corners[::2]), sorted(corners[1::2])
    start, end = source.frame(size), target.frame(size)
    left, top = (max(0.0, min(1.0, value)) for value in start.to_unit(x1 * size[0], y1 * size[1]))
    right, bottom = (max(0.0, min(1.0, value)) for value in start.to_unit(x2 * size[0], y2 * size[1]))
    text = source.codec.write_boxes([(left, top, right, bottom)], start.canvas)
    written, groups = rewrite(text, lambda: size, source=source, target=target)
    (before,), (after,) = source.codec.read(text, start.canvas), target.codec.read(written, end.canvas)
    assert groups == 1
    pixels = zip(_pixels(before.boxes[0], start), _pixels(after.boxes[0], end), strict=True)
    for place_, (was, now) in enumerate(pixels):
        axis = place_ % 2
        inside = min(max(was, 0.0), float(size[axis])) if target.codec.frame == "image" or kinds[1] == "squash" else was
        bound = target.codec.error(end.canvas) * end.canvas[axis] / end.scale[axis]
        assert now == pytest.approx(inside, abs=bound + 1e-6)


def _pixels(box: UnitBox, frame: Placement) -> tuple[float, ...]:
    return *frame.from_unit(box[0], box[1]), *frame.from_unit(box[2], box[3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("see [0.1,0.2,0.3]", r"'\[0.1,0.2,0.3\]': shikra cannot read it: wrong_count"),
        ("[0.1,0.2,0.3,0.4] [0.9,0.2,0.3,0.4]", r"'\[0.9,0.2,0.3,0.4\]': shikra cannot read it: inverted"),
        ("[0.1,0.0,0.3,0.1]", r"box \(0.100, 0.000, 0.300, 0.100\) lies outside the frame of ferret"),
        ("[0.1,0.1]", r"point \(0.100, 0.100\) lies outside the frame of ferret"),
    ],
)
def test_what_has_no_equal_is_named(text: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        rewrite(text, lambda: WIDE, source=convention("shikra"), target=convention("ferret"))


def test_a_target_without_points_is_named() -> None:
    with pytest.raises(ConfigError, match="codec 'llava15' cannot write points"):
        rewrite("[0.1,0.5]", lambda: SQUARE, source=convention("shikra"), target=convention("llava15"))


def test_a_size_is_asked_for_only_where_there_are_regions() -> None:
    def size() -> tuple[int, int]:
        raise AssertionError("not needed")

    assert rewrite("7 dogs", size, source=convention("shikra"), target=convention("ferret")) == ("7 dogs", 0)
