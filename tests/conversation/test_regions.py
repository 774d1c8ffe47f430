from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.conversation.region import RegionCodec
from mllm.registry import REGIONS

SIZE = (336, 336)
CODECS: dict[str, RegionCodec] = {
    "shikra": REGIONS.make("shikra"),
    "shikra, two digits": REGIONS.make(dict(type="shikra", digits=2)),
    "bins": REGIONS.make("bins"),
    "bins, coarse": REGIONS.make(dict(type="bins", bins=33)),
}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
unit = st.floats(0, 1)
points = st.lists(st.tuples(unit, unit), min_size=1, max_size=4)


@st.composite
def boxes(draw: st.DrawFn) -> list[tuple[float, float, float, float]]:
    corners = draw(st.lists(st.tuples(unit, unit, unit, unit), min_size=1, max_size=4))
    return [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]


@every_codec
@given(group=boxes())
def test_boxes_are_read_back_within_the_bound(codec: RegionCodec, group: list[tuple[float, ...]]) -> None:
    (reading,) = codec.read(f"It is {codec.write_boxes(group, SIZE)} .", SIZE)
    assert reading.failure is None
    for box, read in zip(group, reading.boxes, strict=True):
        assert read == pytest.approx(box, abs=codec.error)


@every_codec
@given(group=points)
def test_points_are_read_back_within_the_bound(codec: RegionCodec, group: list[tuple[float, float]]) -> None:
    (reading,) = codec.read(codec.write_points(group, SIZE), SIZE)
    for point, read in zip(group, reading.points, strict=True):
        assert read == pytest.approx(point, abs=codec.error)


@every_codec
def test_several_groups_in_free_text_keep_their_order(codec: RegionCodec) -> None:
    first, second = (0.0, 0.0, 0.25, 0.25), (0.5, 0.5, 1.0, 1.0)
    text = f"The man {codec.write_boxes([first], SIZE)} is left of {codec.write_boxes([second], SIZE)} [sic]."
    readings = codec.read(text, SIZE)
    assert [reading.boxes[0] for reading in readings] == [
        pytest.approx(first, abs=codec.error),
        pytest.approx(second, abs=codec.error),
    ]


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("[0.1,0.2,0.3,0.4]", None),
        ("[ 0.1, 0.2 ,0.3, .4 ]", None),
        ("[0,0,1,1]", None),
        ("[+0.1,0.2,0.3,0.4]", None),
        ("[0.1,0.2,0.3;0.4]", "wrong_count"),
        ("[0.1,0.2,0.3]", "wrong_count"),
        ("[0.1,0.2,0.3,0.4;0.1,0.2]", "wrong_count"),
        ("[9.999,0.2,0.3,0.4]", "out_of_range"),
        ("[-0.1,0.2,0.3,0.4]", "out_of_range"),
        ("[0.5,0.2,0.3,0.4]", "inverted"),
        ("[0.1,0.2,0..3,0.4]", "malformed"),
        ("[0.1,0.2,0.3,0.4", "malformed"),
        ("[0.1,0.2 [0.1,0.2,0.3,0.4]", "malformed"),
        ("[0.1,0.2,x3,0.4]", "malformed"),
    ],
)
def test_shikra_reads_or_says_why_not(text: str, failure: str | None) -> None:
    assert CODECS["shikra"].read(text, SIZE)[0].failure == failure


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("<b_st><bin_0><bin_1><bin_2><bin_3><b_ed>", None),
        ("<B_ST> <bin_0> <bin_1> <bin_2> <bin_3> <b_ed>", None),
        ("<b_st><bin_0><bin_1><bin_2><b_ed>", "wrong_count"),
        ("<b_st><b_ed>", "wrong_count"),
        ("<p_st><bin_0><bin_1><bin_2><bin_3><p_ed>", "wrong_count"),
        ("<b_st><bin_0><bin_1><bin_2><bin_1001><b_ed>", "out_of_range"),
        ("<b_st><bin_9><bin_1><bin_2><bin_3><b_ed>", "inverted"),
        ("<b_st><bin_0><bin_1>", "malformed"),
        ("<b_st><bin_0>, <bin_1>hm<bin_2><bin_3><b_ed>", "malformed"),
    ],
)
def test_bins_reads_or_says_why_not(text: str, failure: str | None) -> None:
    assert CODECS["bins"].read(text, SIZE)[0].failure == failure


@every_codec
def test_text_without_regions_has_no_reading(codec: RegionCodec) -> None:
    assert codec.read("Answer: it is not there [sic], I think {maybe} <b>", SIZE) == []


def test_bins_declares_the_tokens_it_writes() -> None:
    codec = REGIONS.make(dict(type="bins", bins=5))
    assert codec.tokens[:6] == ("<b_st>", "<b_sep>", "<b_ed>", "<p_st>", "<p_sep>", "<p_ed>")
    assert codec.tokens[6:] == tuple(f"<bin_{n}>" for n in range(5))
