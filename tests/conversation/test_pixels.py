"""One rule for what reaches out of an image, in both directions and for every layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mllm.conversation.codec_base import Reading
from mllm.conversation.pixels import PixelCodec, PixelRegions
from mllm.errors import DataError
from mllm.geometry import PlacementKind, place
from mllm.registry import CODECS
from mllm.types import Box, Point, Prediction

SIZE = (400, 200)


def codec_on(name: str, kind: PlacementKind = "pad", size: tuple[int, int] = SIZE) -> PixelCodec:
    return PixelCodec(CODECS.make(name), place(kind, size, 100), image=3)


@pytest.mark.parametrize("name", ["shikra", "ferret"])
@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((-1, 20, 100, 80), (0, 20, 100, 80)),
        ((100, 20, 401, 80), (100, 20, 400, 80)),
        ((100, -30, 200, 230), (100, 0, 200, 200)),
        ((-9, -9, 999, 999), (0, 0, 400, 200)),
        ((0, 0, 400, 200), (0, 0, 400, 200)),
        ((100, 210, 200, 230), None),
        ((-30, 20, -1, 80), None),
        ((500, 20, 600, 80), None),
    ],
)
def test_a_box_is_cut_off_at_the_edge_of_its_image_or_refused(name: str, box: Any, kept: Any) -> None:
    """The padding of a square canvas is no part of the image."""
    codec = codec_on(name)
    x1, y1, x2, y2 = box
    region = Box(x1=x1, y1=y1, x2=x2, y2=y2)
    if kept is None:
        for work in (lambda: codec.write_boxes([region]), lambda: codec.check(region)):
            with pytest.raises(DataError, match="expected a box in what the model sees of its image, found") as caught:
                work()
            assert caught.value.kind == "unseen-region"
        return
    codec.check(region)
    read = codec.read_answer(codec.write_boxes([region]))
    assert (read.failure, read.clipped, read.boxes[0].image) == (None, 0, 3)
    assert read.boxes[0].xyxy == pytest.approx(kept, abs=0.5)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["shikra", "llava15", "ferret", "qwen3_vl", "internvl", "cogvlm"]),
    kind=st.sampled_from(["pad", "squash", "crop"]),
    xs=st.tuples(st.floats(-900, 900), st.floats(-900, 900)),
    ys=st.tuples(st.floats(-900, 900), st.floats(-900, 900)),
)
def test_what_training_refuses_evaluation_fails_and_the_rest_both_cut(
    name: str, kind: PlacementKind, xs: tuple[float, float], ys: tuple[float, float]
) -> None:
    """A model that writes the numbers of a box as they are, unclipped, is read as the box that training would write."""
    codec = codec_on(name, kind)
    box = Box(x1=min(xs), y1=min(ys), x2=max(xs), y2=max(ys))
    numbers = [*codec.frame.to_unit(box.x1, box.y1), *codec.frame.to_unit(box.x2, box.y2)]
    scale = 1 if name in ("shikra", "llava15") else 1000
    said = [round(value * scale, 9) for value in numbers]
    assume(scale == 1 or min(said) < 0 or max(said) > 1)  # else they are read as fractions of 1
    read = codec.read_answer(f"[{', '.join(f'{value:.9f}' for value in said)}]")
    try:
        written = codec.read_answer(codec.write_boxes([box]))
    except DataError:
        # a coarse codec may have meant what lies just inside
        error = codec.codec.error(codec.frame.canvas)
        assert read.failure == "out_of_range" or _margin(codec, numbers) <= error + 1e-6
        return
    assert read.failure is None
    assert read.boxes[0].xyxy == pytest.approx(written.boxes[0].xyxy, abs=5)


def _margin(codec: PixelCodec, numbers: list[float]) -> float:
    """How far the box lies outside of what is seen, in fractions of the frame."""
    corners = codec.frame.to_unit(0, 0), codec.frame.to_unit(*codec.frame.source)
    low = [max(0.0, corners[0][axis]) for axis in (0, 1)]
    high = [min(1.0, corners[1][axis]) for axis in (0, 1)]
    return max(max(low[axis] - numbers[axis + 2], numbers[axis] - high[axis]) for axis in (0, 1))


@pytest.mark.parametrize(
    ("name", "text", "boxes", "failure", "clipped"),
    [
        ("ferret", "[-3, 100, 500, 400]", [(0, 20, 200, 80)], None, 1),
        ("ferret", "[0, 100, 500, 1001], [0, 0, 1300, 9], [1, 1, 2, 2]", 3, None, 2),
        ("ferret", "[0, 0, 1000, 1000]", [(0, 0, 400, 200)], None, 0),
        ("ferret", "[0, 0, 1000.4, 1000]", [(0, 0, 400, 200)], None, 0),  # within the codec's own error
        ("ferret", "[0, 1100, 500, 1400]", [], "out_of_range", 0),
        ("ferret", "[1, 2, 300, 400], [0, 1100, 500, 1400]", [(0.4, 0.4, 120, 80)], "out_of_range", 0),
        ("shikra", "[0.1,0.2,0.3,0.5]", [(40, 0, 120, 100)], None, 1),  # from the padding
        ("shikra", "[0.1,0.01,0.3,0.1]", [], "out_of_range", 0),  # in the padding
        ("shikra", "[0.1,0.2495,0.3,0.5]", [(40, 0, 120, 100)], None, 0),
        ("shikra", "[0.0,0.0,1e30,1]", [], "malformed", 0),
        ("shikra", f"[0.0,0.0,{'9' * 300},1]", [(0, 0, 400, 200)], None, 1),
        ("shikra", f"[0.0,0.0,{'9' * 400},1]", [], "out_of_range", 0),
        ("internvl", "none", [], None, 0),
    ],
)
def test_read_answer_counts_what_it_cut(name: str, text: str, boxes: Any, failure: str | None, clipped: int) -> None:
    read = codec_on(name).read_answer(text)
    assert (read.failure, read.clipped) == (failure, clipped)
    if isinstance(boxes, int):
        assert len(read.boxes) == boxes
    else:
        assert [box.xyxy for box in read.boxes] == [pytest.approx(box, abs=0.01) for box in boxes]


def test_a_point_is_seen_or_refused() -> None:
    codec = codec_on("ferret")
    assert codec.read_answer(codec.write_points([Point(x=400, y=0)])).points == (Point(x=400, y=0, image=3),)
    with pytest.raises(DataError, match=r"expected a point in what the model sees of its image, found \[400.5, 0\]"):
        codec.write_points([Point(x=400.5, y=0)])
    assert codec.read_answer("[1002, 0]").failure == "out_of_range"
    with pytest.raises(DataError, match="a point"):
        codec_on("shikra").write_points([Point(x=10, y=-1)])  # in the padding


def test_check_refuses_a_point_outside() -> None:
    codec_on("ferret").check(Point(x=400, y=200))
    with pytest.raises(DataError, match=r"expected a point in what the model sees of its image, found \[401, 0\]"):
        codec_on("ferret").check(Point(x=401, y=0))


def test_the_failure_of_an_answer_is_the_first_of_its_groups() -> None:
    codec = codec_on("shikra", "squash")
    read = codec.read_answer("[0.1,0.2,0.3,0.4], then [0.5,0.2,0.3,0.4], then [0.1,0.2,0.3] and [0.5,0.5,1,1].")
    assert (len(read.boxes), read.failure) == (2, "inverted")


def test_a_codec_is_on_the_first_image_unless_told_otherwise() -> None:
    codec = PixelCodec(CODECS.make("shikra"), place("squash", SIZE, 100))
    read = codec.read_answer("[0.1,0.2,0.3,0.4]")
    assert (read.boxes[0].image, read.clipped, codec.read_answer("none").clipped) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "span", "rules"),
    [
        ("[0.1,0.2,0.3,0.4]", (0, 17), ("marked",)),
        ("It is [0.1,0.2,0.3,0.4].", (6, 23), ("marked",)),
        ("<think>[0,0,1,1]</think>[0.1,0.2,0.3,0.4]", (24, 41), ("thinking", "marked")),
    ],
)
def test_read_into_tells_where_in_the_text_a_region_stands(
    text: str, span: tuple[int, int], rules: tuple[str, ...]
) -> None:
    found = codec_on("shikra", "squash").read_into(Prediction(key="a", index=0, text=text))
    assert (found.spans, found.read_by, found.image_size) == ((span,), rules, SIZE)
    assert len(found.boxes) == 1


def test_read_group_may_leave_what_reaches_out_of_the_image() -> None:
    codec = codec_on("ferret", "squash")
    (reading,) = codec.readings("[-500, 100, 500, 1500]")
    assert [codec.read_group(reading, cut=cut).boxes[0].xyxy for cut in (True, False)] == [
        (0, 20, 200, 200),
        (-200, 20, 200, 300),
    ]
    (within,) = codec.readings("[0, 0, 1000.4, 1000]")  # by less than the codec's own error
    assert codec.read_group(within, cut=False).boxes[0].xyxy == (0, 0, 400, 200)


class Second:
    """Every group is on image 1, which is squashed."""

    def on(self, image: int) -> PixelCodec:
        return PixelCodec(CODECS.make("ferret"), place("squash", (100, 100), 100), image=image)

    def place(self, text: str, readings: Sequence[Reading], before: Sequence[tuple[int, int]] = ()) -> list[Reading]:
        return [replace(reading, image=1) for reading in readings]


def test_read_group_is_on_the_image_that_a_group_names_where_there_are_others() -> None:
    placement = place("squash", SIZE, 100)
    alone, first = (PixelCodec(CODECS.make("ferret"), placement, others=others) for others in (None, Second()))
    second = PixelCodec(CODECS.make("ferret"), placement, image=1, others=Second())
    read = first.read_answer("[-500, 0, 500, 1000]")
    assert [(box.image, box.xyxy) for box in read.boxes] == [(1, (0, 0, 50, 100))]
    assert [(box.image, box.xyxy) for box in second.read_answer("[0, 0, 500, 1000]").boxes] == [(1, (0, 0, 200, 200))]
    named = Reading(boxes=((-0.5, 0.0, 0.5, 1.0),), image=1)
    assert [(box.image, box.xyxy) for box in alone.read_group(named).boxes] == [(0, (0, 0, 200, 200))]
    assert first.read_group(named, cut=False).boxes[0].xyxy == (-50, 0, 50, 100)
    assert first.read_group(replace(named, image=None)).boxes[0].image == 0
    assert PixelRegions().clipped == 0


@pytest.mark.parametrize(
    ("numbers", "failure"),
    [
        ((0, 0, 1, 1), None),
        ((-0.0005, 0, 1.0005, 1), None),  # within the codec's own error
        ((-0.002, 0, 1, 1), "out_of_range"),
        ((0, 0, 1, 1.002), "out_of_range"),
    ],
)
def test_out_of_frame_tells_numbers_beyond_the_range(numbers: Any, failure: str | None) -> None:
    codec = codec_on("ferret")
    assert codec.out_of_frame(Reading(boxes=(numbers,))) == failure
    assert codec.out_of_frame(Reading(points=(numbers[:2], numbers[2:]))) == failure


EDGES = place("pad", (40, 20), 32)


@pytest.mark.parametrize("box", [(40, 20, 50, 30), (40, 0, 50, 10), (-9, 0, 0, 10), (0, 20, 10, 29), (0, -9, 10, 0)])
def test_a_box_that_touches_the_image_from_outside_is_refused(box: tuple[float, float, float, float]) -> None:
    x1, y1, x2, y2 = box
    with pytest.raises(DataError, match="expected a box in what the model sees"):
        PixelCodec(CODECS.make("shikra"), EDGES).write_boxes([Box(x1=x1, y1=y1, x2=x2, y2=y2)])


@pytest.mark.parametrize("box", [(39.9, 0, 50, 10), (40, 0, 40, 10), (0, 20, 10, 20)])
def test_a_box_with_a_part_in_the_image_or_on_its_edge_is_written(box: tuple[float, float, float, float]) -> None:
    x1, y1, x2, y2 = box
    assert PixelCodec(CODECS.make("shikra"), EDGES).write_boxes([Box(x1=x1, y1=y1, x2=x2, y2=y2)])


@pytest.mark.parametrize(
    ("name", "text", "rules"),
    [
        ("qwen_vl", "<box>(100,200),(500,600)</box>", ("marked",)),
        ("qwen_vl", "(100, 200), (500, 600)", ("bare",)),
        (
            "qwen_vl",
            "<think>[1, 2, 3, 4]</think><answer>[100, 200, 500, 600]</answer>",
            ("thinking", "answer_tag", "bare"),
        ),
        ("shikra", "\\boxed{[0.1,0.2,0.5,0.6]}", ("boxed", "marked")),
        ("shikra", "[0.5,0.2,0.1,0.6]", ("marked",)),
        ("shikra", "nothing", ()),
    ],
)
def test_read_into_names_the_rules_and_the_form_of_an_answer(name: str, text: str, rules: tuple[str, ...]) -> None:
    assert codec_on(name).read_into(Prediction(key="a", index=0, text=text)).read_by == rules


@pytest.mark.parametrize(
    ("name", "text", "forms"),
    [
        (
            "shikra",
            "<think>[0.1,0.1,0.2,0.2]</think> a [0.1,0.2,0.5,0.6;0.1,0.2,0.6,0.7]",
            ["[0.1,0.2,0.5,0.6;0.1,0.2,0.6,0.7]"] * 2,
        ),
        (
            "qwen_vl",
            "<answer>(100,200),(500,600) and (200,300),(600,700)</answer>",
            ["(100,200),(500,600)", "(200,300),(600,700)"],
        ),
        ("shikra", "nothing", []),
    ],
)
def test_read_into_says_where_in_the_text_each_region_stands(name: str, text: str, forms: list[str]) -> None:
    prediction = codec_on(name).read_into(Prediction(key="a", index=0, text=text))
    assert len(prediction.boxes) == len(forms)
    assert [text[first:last] for first, last in prediction.spans] == forms
