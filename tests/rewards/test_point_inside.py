from __future__ import annotations

import pytest

from mllm.rewards.point_inside import PointInside
from mllm.types import GroundTruth, Point
from tests.rewards.answers import answered, box, said, truth

IN_BOX = truth(box(100, 100, 200, 200))
MASK = {"size": [400, 400], "counts": [0, 400, 159_600]}
"""The first column of the image."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"point_2d": [150.5, 100.0]}', 1.0),
        ('{"point_2d": [99, 150]}', 0.0),
        ('{"point_2d": [-150, 150]}', 0.0),
        ("[140, 140, 160, 160]", 1.0),
        ("there", 0.0),
    ],
)
def test_a_point_or_the_centre_of_a_box_lies_in_the_box(text: str, value: float) -> None:
    assert PointInside()(answered(text, IN_BOX)) == value


def test_a_point_lies_on_the_pixels_of_a_mask() -> None:
    given = GroundTruth(masks=(MASK,), points=(Point(x=0.5, y=9),))
    assert PointInside()(answered('{"point_2d": [0, 300]}', given)) == 1.0
    assert PointInside()(answered('{"point_2d": [2, 300]}', given)) == 0.0
    assert PointInside(rule="match")(answered('{"point_2d": [0, 300]}', given)) == 1.0


def test_nothing_to_point_at_and_nothing_to_compare_with() -> None:
    assert PointInside()(answered("[]", GroundTruth(no_target=True))) == 1.0
    assert PointInside()(said("a", "a")) is None
    assert PointInside(box_centre=False)(answered("[140, 140, 160, 160]", IN_BOX)) == 0.0
