from __future__ import annotations

import pytest

from mllm.errors import ConfigError
from mllm.registry import REWARDS
from mllm.rewards.box_iou import BoxIoU
from mllm.types import GroundTruth
from tests.rewards.answers import answered, box, said, truth

TRUE = truth(box(100, 100, 200, 200))


@pytest.mark.parametrize(
    ("text", "iou"),
    [
        ('{"bbox_2d": [100, 100, 200, 200]}', 1.0),
        ('{"bbox_2d": [100.0, 100.0, 150.5, 200.0]}', 0.505),
        ("[100, 100, 150.5, 200]", 0.505),
        ('{"bbox_2d": [-100.5, 100, 200, 200]}', 0.5),
        ('{"bbox_2d": [200, 200, 100, 100]}', 0.0),
        ('{"bbox_2d": [100, 100, 200, 200]} {"bbox_2d": [0, 0, 9, 9]}', 0.0),
        ('{"bbox_2d": [100, 100, 200]}', 0.0),
        ("<answer></answer>", 0.0),
        ("", 0.0),
    ],
)
def test_decimals_and_signs_are_read_and_only_one_readable_box_counts(text: str, iou: float) -> None:
    """What reaches out of the image is cut off at its edge: -100.5 is 0."""
    assert BoxIoU()(answered(text, TRUE)) == pytest.approx(iou)


def test_four_digit_pixels_are_read() -> None:
    given = answered('{"bbox_2d": [1100, 100, 1200, 200]}', TRUE)
    assert (given.failure, BoxIoU()(given)) == ("out_of_range", 0.0)


def test_a_box_is_not_put_together_from_two() -> None:
    given = answered('{"bbox_2d": [100, 100, 9]} and then 9, 200, 200', TRUE)
    assert BoxIoU()(given) == 0.0


def test_the_last_answer_tag_counts_and_not_what_stands_before() -> None:
    text = "<answer>[0, 0, 9, 9]</answer> or rather <answer>[100, 100, 200, 200]</answer>"
    assert BoxIoU()(answered(text, TRUE)) == 1.0


def test_threshold_is_strict() -> None:
    half = answered("[100, 100, 200, 150]", TRUE)
    assert BoxIoU(threshold=0.5)(half) == 0.0
    assert BoxIoU(threshold=0.49)(half) == 1.0


def test_giou_tells_near_from_far_and_gives_an_unreadable_answer_the_least() -> None:
    give = BoxIoU(kind="giou")
    near, far, none = (answered(text, TRUE) for text in ("[200, 100, 300, 200]", "[300, 300, 400, 400]", "no idea"))
    assert give(near) == pytest.approx(0.0)
    assert give(far) == pytest.approx(-1 + 2 / 9)
    assert give(none) == -1.0
    assert give(answered("[100, 100, 200, 200]", TRUE)) == 1.0


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_where_there_is_nothing_an_answer_without_a_region_is_right(kind: str) -> None:
    give, nothing = REWARDS.make({"type": "BoxIoU", "kind": kind}), GroundTruth(no_target=True)
    assert give(answered("[]", nothing)) == 1.0
    assert give(answered("[1, 2, 30, 40]", nothing)) == {"iou": 0.0, "giou": -1.0}[kind]


def test_it_does_not_apply_without_exactly_one_box() -> None:
    assert BoxIoU()(said("a dog", "a dog")) is None
    assert BoxIoU()(answered("[1, 2, 3, 4]", truth(box(1, 2, 3, 4), box(5, 6, 7, 8)))) is None


def test_a_threshold_belongs_to_iou() -> None:
    with pytest.raises(ConfigError, match="reward 'BoxIoU': threshold: expected none beside kind='giou'"):
        REWARDS.make({"type": "BoxIoU", "kind": "giou", "threshold": 0.5})
