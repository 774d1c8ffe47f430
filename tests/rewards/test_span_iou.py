from __future__ import annotations

import pytest

from mllm.rewards.readable import Readable
from mllm.rewards.span_iou import SpanIoU
from mllm.types import Box, GroundTruth, Prediction, TimeSpan

TRUE = (TimeSpan(start=0, end=10),)


def answer(*found: tuple[float, float], true: tuple[TimeSpan, ...] = TRUE, **given: object) -> Prediction:
    spans = tuple(TimeSpan(start=start, end=end) for start, end in found)
    truth = GroundTruth(time_spans=true, no_target=not true)
    return Prediction(key="a", index=0, text="x", time_spans=spans, truth=truth, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "reward"), [([(0, 10)], 1), ([(0, 5)], 0.5), ([(0, 2), (4, 7)], 0.5), ([(20, 30)], 0), ([], 0)]
)
def test_the_reward_is_the_temporal_iou(found: list[tuple[float, float]], reward: float) -> None:
    assert SpanIoU()(answer(*found)) == pytest.approx(reward)


def test_where_there_is_no_such_moment_an_answer_without_one_is_right() -> None:
    assert (SpanIoU()(answer(true=())), SpanIoU()(answer((0, 1), true=()))) == (1, 0)


def test_it_does_not_apply_where_no_time_is_asked_for() -> None:
    truth = GroundTruth(boxes=(Box(x1=0, y1=0, x2=1, y2=1),))
    assert SpanIoU()(Prediction(key="a", index=0, text="x", truth=truth)) is None


def test_readable_asks_for_a_span() -> None:
    assert (Readable()(answer((0, 1))), Readable()(answer())) == (1, 0)
    assert Readable()(answer(time_failure="inverted")) == 0
    assert Readable()(answer((0, 1), read_by=("bare",))) == 0
