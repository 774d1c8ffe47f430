"""What every codec does alike: what it writes is read back within its bound, from free text, with its place there."""

from __future__ import annotations

import math
import re
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm.conversation.codec_base import (
    ImageNames,
    Reading,
    RegionCodec,
    check_rows,
    clipped,
    image_names,
    join_readings,
    no_form,
    none_text,
    phrase_follows,
    phrase_marks,
    read_answer,
    to_frame,
    visible,
)
from mllm.errors import ConfigError
from mllm.geometry import Placement, PlacementKind, flip, place
from mllm.registry import CODECS
from mllm.types import Box

SIZE = (640, 480)
OWN = [name for name in CODECS.names() if CODECS.find(name).__module__.startswith("mllm.")]
CODECS: dict[str, RegionCodec] = {
    **{name: CODECS.make(name) for name in OWN},
    "shikra, two digits": CODECS.make(dict(type="shikra", digits=2)),
    "bins, coarse": CODECS.make(dict(type="bins", bins=33)),
}
WITHOUT_BOXES = {"molmo", "molmo2"}
WITHOUT_POINTS = {"llava15", "minigpt_v2", "kosmos2", "internvl", "glm", "cogvlm", "paligemma", "florence2"}
BOXED = {name: codec for name, codec in CODECS.items() if name not in WITHOUT_BOXES}
POINTED = {name: codec for name, codec in CODECS.items() if name not in WITHOUT_POINTS}

every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
codec_of_boxes = pytest.mark.parametrize("codec", BOXED.values(), ids=BOXED)
codec_of_points = pytest.mark.parametrize("codec", POINTED.values(), ids=POINTED)
unit = st.floats(0, 1)
points = st.lists(st.tuples(unit, unit), min_size=1, max_size=4)
sides = st.integers(1, 3000)
sizes = st.tuples(sides, sides)


@st.composite
def boxes(draw: st.DrawFn) -> list[tuple[float, float, float, float]]:
    corners = draw(st.lists(st.tuples(unit, unit, unit, unit), min_size=1, max_size=4))
    return [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]


def frame_of(codec: RegionCodec, kind: PlacementKind, size: tuple[int, int]) -> tuple[int, int]:
    return size if codec.frame == "image" else place(kind, size, 336).canvas


@codec_of_boxes
@settings(max_examples=20, deadline=None)
@given(group=boxes(), size=sizes, kind=st.sampled_from(get_args(PlacementKind)))
def test_boxes_are_read_back_within_the_bound(
    codec: RegionCodec, group: list[Any], size: tuple[int, int], kind: PlacementKind
) -> None:
    frame = frame_of(codec, kind, size)
    (reading,) = codec.read(f"It is {codec.write_boxes(group, frame)} .", frame)
    assert reading.failure is None
    for box, read in zip(group, reading.boxes, strict=True):
        assert read == pytest.approx(box, abs=codec.error(frame))


@codec_of_points
@settings(max_examples=20, deadline=None)
@given(group=points, size=sizes, kind=st.sampled_from(get_args(PlacementKind)))
def test_points_are_read_back_within_the_bound(
    codec: RegionCodec, group: list[Any], size: tuple[int, int], kind: PlacementKind
) -> None:
    frame = frame_of(codec, kind, size)
    (reading,) = codec.read(codec.write_points(group, frame), frame)
    assert reading.failure is None
    for point, read in zip(group, reading.points, strict=True):
        assert read == pytest.approx(point, abs=codec.error(frame))


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Any, mirrored ones too, that leave some of the image on the canvas."""
    source, canvas = draw(sizes), draw(sizes)
    scale = [draw(st.floats(0.05, 20)) * draw(st.sampled_from([1, -1])) for _ in range(2)]
    # where the first edge of the image comes to lie, so that at least a tenth of what is smaller is seen
    extents = [side * factor for side, factor in zip(source, scale, strict=True)]
    offset: list[float] = []
    for extent, side in zip(extents, canvas, strict=True):
        seen = min(abs(extent), side) / 10
        left = draw(st.floats(seen - abs(extent), side - seen))
        offset.append(left if extent > 0 else left - extent)
    return Placement(source=source, canvas=canvas, scale=(scale[0], scale[1]), offset=(offset[0], offset[1]))


@codec_of_boxes
@settings(max_examples=20, deadline=None)
@given(data=st.data(), placement=placements())
def test_boxes_in_pixels_of_the_image_come_back_within_the_bound(
    codec: RegionCodec, data: st.DataObject, placement: Placement
) -> None:
    """Original pixels -> the frame -> text -> the frame -> original pixels, for what the model sees of the image."""
    frame = to_frame(placement, codec.frame)
    sides: list[list[float]] = []
    for side, edges in zip(
        frame.source, zip(frame.inverse(0, 0), frame.inverse(*frame.canvas), strict=True), strict=True
    ):
        seen = st.floats(max(0.0, min(edges)), min(float(side), max(edges)))
        sides.append(sorted([data.draw(seen), data.draw(seen)]))
    box = Box(x1=sides[0][0], y1=sides[1][0], x2=sides[0][1], y2=sides[1][1])
    x1, y1, x2, y2 = (value / frame.canvas[place % 2] for place, value in enumerate(frame.move_box(box).xyxy))
    inside = clipped((x1, y1, x2, y2))
    assert inside is not None
    (reading,) = codec.read(codec.write_boxes([inside], frame.canvas), frame.canvas)
    corners = [frame.from_unit(*corner) for corner in (reading.boxes[0][:2], reading.boxes[0][2:])]
    for axis, read in enumerate(zip(*corners, strict=True)):
        bound = codec.error(frame.canvas) * frame.canvas[axis] / abs(frame.scale[axis])
        assert sorted(read) == pytest.approx(sides[axis], abs=bound + 1e-6)


@codec_of_boxes
@settings(max_examples=15, deadline=None)
@given(group=boxes())
def test_a_text_is_written_again_from_its_reading(codec: RegionCodec, group: list[Any]) -> None:
    """A second round changes nothing: converting there and back does not drift."""
    once = codec.write_boxes(group, SIZE)
    (first,) = codec.read(once, SIZE)
    twice = codec.write_boxes(first.boxes, SIZE)
    (second,) = codec.read(twice, SIZE)
    assert codec.write_boxes(second.boxes, SIZE) == twice


@pytest.mark.parametrize("name", sorted(WITHOUT_POINTS))
def test_a_codec_without_points_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"codec '{name}' cannot write points"):
        CODECS[name].write_points([(0.5, 0.5)], SIZE)


@pytest.mark.parametrize("name", sorted(WITHOUT_BOXES))
def test_a_codec_without_boxes_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"codec '{name}' cannot write boxes"):
        CODECS[name].write_boxes([(0.1, 0.1, 0.5, 0.5)], SIZE)


def written(codec: RegionCodec, x: float) -> str:
    """A region at `x`, in the form that the codec has."""
    return (
        codec.write_points([(x, 0.5)], SIZE)
        if any(codec is CODECS[name] for name in WITHOUT_BOXES)
        else codec.write_boxes([(x, 0.5, 0.75, 1.0)], SIZE)
    )


def several(codec: RegionCodec) -> list[str]:
    """Groups of two regions, of boxes and of points, where the codec has a form for them."""
    boxes = [codec.write_boxes([(0.0, 0.0, 1.0, 1.0)] * 2, SIZE)] if codec in BOXED.values() else []
    return boxes + ([codec.write_points([(0.0, 1.0)] * 2, SIZE)] if codec in POINTED.values() else [])


@every_codec
def test_several_groups_in_free_text_keep_their_order_and_place(codec: RegionCodec) -> None:
    first, second = written(codec, 0.0), written(codec, 0.5)
    text = f"The man {first} is left {{of}} {second} [sic]. <b>"
    readings = codec.read(text, SIZE)
    xs = [(*reading.boxes, *reading.points)[0][0] for reading in readings]
    assert xs == pytest.approx([0.0, 0.5], abs=codec.error(SIZE))
    assert [text[slice(*reading.span)] for reading in readings if reading.span] == [first, second]


@every_codec
def test_letter_case_and_spaces_do_not_matter(codec: RegionCodec) -> None:
    text = written(codec, 0.25)
    spaced = text.replace(",", " ,  ").replace("><", "> <").replace("[", "[ ").replace("]", " ]")
    for variant in (text.upper(), spaced, f"\n{text}\n"):
        readings = codec.read(variant, SIZE)
        assert [reading.failure for reading in readings] == [None]
        assert readings[0].boxes + readings[0].points == codec.read(text, SIZE)[0].boxes + readings[0].points


@every_codec
@pytest.mark.parametrize(
    "text",
    [
        "",
        "Answer: it is not there [sic], I think {maybe} <b>",
        "a < b > c, {x: [y]} (see <location>) <box or <point> of <object",
        "[[ ]] {} <> [] ;;; <loc> <loc_>",
    ],
)
def test_text_without_regions_has_no_reading(codec: RegionCodec, text: str) -> None:
    assert codec.read(text, SIZE) == []


@every_codec
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_no_answer_makes_a_codec_fail(codec: RegionCodec, data: st.DataObject) -> None:
    """Whatever a model writes, cut anywhere, with anything in it, is read or classed; spans lie in the text."""
    whole = written(codec, 0.25)
    cut = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.text(alphabet=st.sampled_from('[]{}<>(),;:"\\`x9. -_')))
    text = "".join(data.draw(st.permutations([whole[:cut], noise, whole])))
    for reading in codec.read(text, SIZE):
        assert reading.boxes or reading.points or reading.failure
        assert reading.span is not None
        start, end = reading.span
        assert 0 <= start < end <= len(text)


@every_codec
def test_there_is_no_region_in_the_text_of_no_region(codec: RegionCodec) -> None:
    for text in (none_text(codec), f"Answer: {none_text(codec)} .", none_text(codec).upper()):
        assert codec.read(text, SIZE) == read_answer(codec, text, SIZE) == []


@every_codec
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_no_answer_makes_the_reader_of_bare_numbers_fail(codec: RegionCodec, data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet=st.sampled_from("[](),;.-+ \n`0123456789eNa"), max_size=80))
    for reading in read_answer(codec, text, SIZE):
        assert reading.boxes or reading.points or reading.failure
        assert reading.span is not None
        start, end = reading.span
        assert 0 <= start < end <= len(text)


@every_codec
@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "inf", "9" * 400, "-" + "9" * 400, "0." + "1" * 400, "٣"])
def test_odd_numbers_are_read_or_classed(codec: RegionCodec, number: str) -> None:
    """In place of the last number of a form; nothing overflows, and no box has a side that is not finite."""
    text = written(codec, 0.25)
    last = list(re.finditer(r"\d+(\.\d+)?", text))[-1]
    for reading in read_answer(codec, f"{text[: last.start()]}{number}{text[last.end() :]}", SIZE):
        assert all(map(math.isfinite, [value for region in (*reading.boxes, *reading.points) for value in region]))


@every_codec
def test_very_long_numbers_are_classed(codec: RegionCodec) -> None:
    text = written(codec, 0.25)
    last = list(re.finditer(r"\d+(\.\d+)?", text))[-1]
    readings = codec.read(f"{text[: last.start()]}{'9' * 6000}{text[last.end() :]}", SIZE)
    assert [reading.failure for reading in readings] == ["out_of_range"]


@every_codec
def test_declared_tokens_are_those_that_are_written(codec: RegionCodec) -> None:
    assert len(set(codec.tokens)) == len(codec.tokens)
    text = written(codec, 0.25) + "".join(several(codec))
    for token in sorted(codec.tokens, key=len, reverse=True):
        text = text.replace(token, "")
    if any(letter.isdigit() for letter in "".join(codec.tokens)):
        assert text.strip(" ;") == "", "coordinates are tokens, nothing else is written"
    for token in codec.tokens:
        assert re.fullmatch("<[^<>]+>", token)


def test_to_frame_is_the_image_itself_for_codecs_that_do_not_see_the_canvas() -> None:
    padded = place("pad", (400, 200), 100)
    assert to_frame(padded, "canvas") is padded
    assert to_frame(padded, "image") == Placement(source=(400, 200), canvas=(400, 200))


@pytest.mark.parametrize(
    ("placement", "seen"),
    [
        (place("pad", (400, 200), 100), (0, 0.25, 1, 0.75)),
        (place("pad", (200, 400), 100), (0.25, 0, 0.75, 1)),
        (place("crop", (400, 200), 100), (0, 0, 1, 1)),
        (place("pad", (400, 200), 100).then(flip((100, 100))), (0, 0.25, 1, 0.75)),
        (Placement(source=(10, 10), canvas=(40, 20), offset=(10, 5)), (0.25, 0.25, 0.5, 0.75)),
    ],
)
def test_visible_is_the_frame_without_its_padding(placement: Placement, seen: tuple[float, ...]) -> None:
    assert visible(placement) == seen


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4)),
        ((-1, 0.2, 0.3, 4), (0, 0.2, 0.3, 1)),
        ((0.1, -2, 3, 0.4), (0.1, 0, 1, 0.4)),
        ((-0.2, 0.2, 0, 0.4), (0, 0.2, 0, 0.4)),  # it touches the edge
        ((1, 0.2, 1.5, 0.4), (1, 0.2, 1, 0.4)),
        ((-0.2, 0.2, -0.01, 0.4), None),
        ((1.01, 0.2, 1.2, 0.4), None),
        ((0.1, -0.2, 0.3, -0.01), None),
        ((0.1, 1.01, 0.3, 1.2), None),
    ],
)
def test_clipped_is_the_part_in_the_unit_square(box: Any, inside: tuple[float, ...] | None) -> None:
    assert clipped(box) == inside


def test_clipped_takes_what_lies_within_the_slack_of_its_axis() -> None:
    to = (0.2, 0.2, 0.6, 0.8)
    assert clipped((0, 0.3, 0.1, 0.4), to, slack=(0.125, 0)) == (0.2, 0.3, 0.2, 0.4)
    assert clipped((0, 0.3, 0.1, 0.4), to, slack=(0, 0.125)) is None
    assert clipped((0.3, 0.9, 0.4, 1), to, slack=(0, 0.125)) == (0.3, 0.8, 0.4, 0.8)
    assert clipped((0.3, 0.9, 0.4, 1), to, slack=(0.125, 0)) is None
    assert clipped((0, 0, 1, 1), to) == to


@pytest.mark.parametrize(
    ("row", "failure"),
    [
        ((0.1, 0.2, 0.3, 0.4), None),
        ((0.1, 0.2), None),
        ((0.1, 0.2, 0.3), "wrong_count"),
        ((), "wrong_count"),
        ((0.1, math.inf, 0.3, 0.4), "out_of_range"),
        ((0.1, 1.2, 0.3, 1.4), "out_of_range"),
        ((0.3, 1.4, 0.1, 1.2), "out_of_range"),  # before it is inverted
        ((0.3, 0.2, 0.1, 0.4), "inverted"),
        ((0.1, 0.4, 0.3, 0.2), "inverted"),
        ((0.1, 0.2, 0.1, 0.2), None),
    ],
)
def test_check_rows_classes_what_is_no_region(row: tuple[float, ...], failure: str | None) -> None:
    found = check_rows([row])
    assert found.failure == failure
    assert found.boxes + found.points == (() if failure else (row,))
    if len(row) == 2:
        assert check_rows([row], points=False).failure == "wrong_count"


def test_join_readings_is_one_group_of_one_kind_with_the_first_failure() -> None:
    box, point = check_rows([(0.1, 0.2, 0.3, 0.4)]), check_rows([(0.1, 0.2)])
    assert join_readings([]) == join_readings([box, point]) == Reading(failure="wrong_count")
    broken = [Reading(failure=failure, labels=("lost",)) for failure in ("inverted", "malformed")]
    named = Reading(boxes=box.boxes, labels=("cat",))
    assert join_readings([named, *broken, named]) == Reading(
        boxes=box.boxes * 2, failure="inverted", labels=("cat", "cat")
    )
    assert join_readings([point, point]).points == point.points * 2


class Told:
    """Finds what it is told."""

    bare: Told | None = None

    def __init__(self, found: list[Reading]) -> None:
        self.found = found

    def read(self, text: str, size: tuple[int, int]) -> list[Reading]:
        return self.found


GOOD, OTHER, POINT = (check_rows([row]) for row in ((0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1), (0.1, 0.2)))
BROKEN, TURNED = Reading(failure="malformed"), Reading(failure="inverted")


@pytest.mark.parametrize(
    ("marked", "unmarked", "bare"),
    [
        ([GOOD], [OTHER], False),
        ([], [OTHER], True),
        ([], [BROKEN], True),
        ([], [], False),
        ([], None, False),
        ([BROKEN], None, False),
        ([BROKEN], [OTHER, GOOD], True),  # marks that are not closed
        ([BROKEN], [OTHER, TURNED], False),
        ([BROKEN], [POINT], False),
        ([BROKEN], [], False),
        ([BROKEN, GOOD], [OTHER], False),
        ([TURNED], [OTHER], False),
        ([Reading(points=POINT.points, failure="malformed")], [OTHER], False),
        ([Reading(boxes=GOOD.boxes, failure="malformed")], [OTHER], False),
    ],
)
def test_read_answer_reads_bare_numbers_where_marks_hold_nothing(
    marked: list[Reading], unmarked: list[Reading] | None, bare: bool
) -> None:
    codec: Any = Told(marked)
    codec.bare = None if unmarked is None else Told(unmarked)
    found = read_answer(codec, "", SIZE)
    assert found == (unmarked if bare else marked)
    assert all(reading.bare == bare for reading in found)


def test_what_a_codec_does_not_say_is_as_it_is_of_most() -> None:
    codec: Any = object()
    assert (none_text(codec), phrase_marks(codec), phrase_follows(codec)) == ("none", None, False)
    assert image_names(codec) == ImageNames() == ImageNames(number="image {}: ", time="{} s: ")
    assert (Reading().lead, Reading().bare, Reading(bare=True) == Reading()) == (0, False, True)
    said: Any = type("Saying", (), dict(none="[]", phrase=("<p>", "</p>"), phrase_follows=True, image_names="own"))
    assert [read(said) for read in (none_text, phrase_marks, phrase_follows, image_names)] == [
        "[]",
        ("<p>", "</p>"),
        True,
        "own",
    ]
    assert no_form("molmo", "boxes").kind == "unsupported"
