"""Time spans as text: what is written reads back, and what models write is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.conversation.time_form import TimeForm, time_form, with_time_spans
from mllm.records import read_item
from mllm.registry import CODECS
from mllm.types import Box, Item, Point, Prediction, TimeSpan

SECONDS = st.tuples(st.integers(0, 99_999), st.integers(0, 99_999)).map(lambda pair: sorted(each / 10 for each in pair))


@given(st.lists(SECONDS, min_size=1, max_size=4), st.sampled_from([" to ", " - ", "-"]))
def test_what_is_written_reads_back(values: list[list[float]], between: str) -> None:
    form = TimeForm(between=between)
    spans = tuple(TimeSpan(start=start, end=end) for start, end in values)
    read = form.read(f"It happens from {form.write(spans)}.")
    assert (read.spans, read.failure, read.form) == (spans, None, "marked")


@pytest.mark.parametrize("name", CODECS.names())
def test_every_codec_writes_time_spans(name: str) -> None:
    form = time_form(CODECS.make(name))
    assert form.read(form.write([TimeSpan(start=12.34, end=45.6)])).spans == (TimeSpan(start=12.3, end=45.6),)


ANSWERS = [
    ("12.3 to 45.6 seconds", [(12.3, 45.6)]),
    ("The event happens in 12.3s - 45.6s.", [(12.3, 45.6)]),
    ("90 - 102 seconds, he cooks. 105 - 110 seconds, he eats.", [(90, 102), (105, 110)]),
    ("from 00:12 to 01:05.5", [(12, 65.5)]),
    ("1:02:03 \u2013 1:02:13", [(3723, 3733)]),
    ("between 3 and 5.5 s", [(3, 5.5)]),
    ("From <3.0 seconds> to <5.0 seconds>", [(3, 5)]),
    ('```json\n{"start_time": "00:12.3", "end_time": "00:45.6", "description": "x"}\n```', [(12.3, 45.6)]),
    ('[{"start": 1, "end": 2.5}, {"start": 7, "end": 9}]', [(1, 2.5), (7, 9)]),
    ("12.3 - 45.6", [(12.3, 45.6)]),  # bare
    ("[12.3, 45.6]", [(12.3, 45.6)]),
    ("2 to 3 people, 4.0 to 8.0 seconds", [(4, 8)]),  # with a unit: others are none
    ("Two people and 3 dogs.", []),
]


@pytest.mark.parametrize(("text", "spans"), ANSWERS)
def test_what_models_write_is_read(text: str, spans: list[tuple[float, float]]) -> None:
    read = TimeForm().read(text)
    assert [(span.start, span.end) for span in read.spans] == [pytest.approx(span) for span in spans]
    assert read.failure is None


@pytest.mark.parametrize(
    ("text", "form", "count"),
    [
        ("00:12 - 01:05", "marked", 1),
        ("2 - 3 dogs, 00:12 - 01:05", "marked", 1),
        ("2 - 01:05", "bare", 1),
        ("01:05 - 70", "bare", 1),
        ("12.3 - 45.6", "bare", 1),
        ("between 3 and 5", "bare", 1),
        ("[12, 45], [50, 60]", "bare", 2),
        ("2 dogs", None, 0),
    ],
)
def test_clocks_and_units_mark_a_span(text: str, form: str | None, count: int) -> None:
    read = TimeForm().read(text)
    assert (read.form, len(read.spans)) == (form, count)


@pytest.mark.parametrize(
    ("text", "failure", "left"),
    [
        ("At 12 seconds.", "malformed", 0),
        ("around 01:15", "malformed", 0),
        ("45.6 to 12.3 seconds", "inverted", 0),
        ("1 to 2 seconds and 45.6 to 12.3 seconds", "inverted", 1),
        ("31 to 40 seconds", "out_of_range", 0),
        ("30 to 40 seconds", None, 1),
        ("29 to 40 seconds", None, 1),
        ("", None, 0),
    ],
)
def test_what_cannot_be_read_has_a_cause(text: str, failure: str | None, left: int) -> None:
    read = TimeForm().read(text, duration=30)
    assert (read.failure, len(read.spans)) == (failure, left)


def item_of(**record: object) -> Item:
    turns = [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "<spans>", "spans_seq": [[0]]}]
    return read_item({"target": {"spans": [[1, 2]]}, "conversations": turns, **record}, key="a:1")


def test_spans_are_read_where_an_answer_is_stated() -> None:
    item, codec = item_of(), CODECS.make("qwen3_vl")
    text = "<think>0 to 9 seconds?</think><answer>1 to 2 seconds</answer>"
    read = with_time_spans(Prediction.of(item, 0, text), item, codec)
    assert [(span.start, span.end) for span in read.time_spans] == [(1, 2)]
    assert read.read_by == ("thinking", "answer_tag", "marked")


def test_rules_are_those_of_the_regions_where_an_answer_has_some() -> None:
    item, codec, spans = item_of(), CODECS.make("qwen3_vl"), ("marked",)
    told = replace(Prediction.of(item, 0, "1 to 2 seconds"), read_by=("boxed",))
    assert with_time_spans(told, item, codec).read_by == spans
    for regions in ({"boxes": (Box(x1=0, y1=0, x2=1, y2=1),)}, {"points": (Point(x=0, y=0),)}):
        assert with_time_spans(replace(told, **regions), item, codec).read_by == ("boxed",)
    nothing = replace(told, text="never")
    assert with_time_spans(nothing, item, codec).read_by == ("boxed",)


def test_a_codec_may_have_a_form_of_its_own() -> None:
    own: Any = type("Own", (), {"time_form": TimeForm(between="-", unit="s", digits=2)})
    assert time_form(own).write([TimeSpan(start=1, end=2)]) == "1.00-2.00s"


def test_an_item_without_a_time_has_no_spans() -> None:
    turns = [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "1 to 2 seconds"}]
    item = read_item({"conversations": turns}, key="a:1")
    prediction = Prediction.of(item, 0, "1 to 2 seconds")
    assert with_time_spans(prediction, item, CODECS.make("shikra")) is prediction
