from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mllm.errors import ConfigError
from mllm.metrics.base import Metric
from mllm.metrics.boxes_f1 import BoxesF1
from mllm.metrics.breakdown import Part, breakdown, kinds_of
from mllm.metrics.counting import Counting
from mllm.metrics.density_f1 import DensityF1
from mllm.metrics.outcome import outcome
from mllm.metrics.phrase_grounding import PhraseGrounding
from mllm.metrics.point_in import PointIn
from mllm.metrics.pope import POPE
from mllm.metrics.rec import REC
from mllm.metrics.ref_l4 import RefL4
from mllm.metrics.text import ExactMatch
from mllm.types import Box, Category, GroundTruth, Point, Prediction


def said(index: int, text: str, *, key: str = "a.jsonl:1", **group: Category) -> Prediction:
    return Prediction(key=key, index=index, text=text, truth=GroundTruth(texts=("yes",)), group=group)


def scores(parts: list[Part]) -> list[tuple[str, int, float]]:
    return [(part.value, part.count, part.score) for part in parts]


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_breakdown_scores_the_items_of_each_value() -> None:
    predictions = [said(0, "yes", kind="cat"), said(1, "no", kind="cat"), said(2, "yes", kind="dog"), said(3, "yes")]
    found = breakdown(ExactMatch(), predictions, names(4))
    assert list(found) == ["kind"]
    assert scores(found["kind"]) == [("(none)", 1, 1.0), ("cat", 2, 0.5), ("dog", 1, 1.0)]
    assert found["kind"][1].interval is not None


def test_breakdown_sorts_numbers_as_numbers() -> None:
    predictions = [said(index, "yes", length=length) for index, length in enumerate(("10", "b2", "a10", "2", "a2"))]
    found = breakdown(ExactMatch(), predictions, names(5))["length"]
    assert [part.value for part in found] == ["2", "10", "a2", "a10", "b2"]


def test_breakdown_leaves_out_what_all_items_share_and_what_tells_each_apart() -> None:
    predictions = [said(index, "yes", split="val", id=index) for index in range(201)]
    assert breakdown(ExactMatch(), predictions, names(201)) == {}


@pytest.mark.parametrize(("given", "found"), [(("half", ["left"]), "tuple"), ({"half": "left"}, "str 'left'")])
def test_breakdown_names_a_metric_whose_parts_are_of_another_form(given: Any, found: str) -> None:
    class Halves(ExactMatch):
        def parts_of(self, prediction: Prediction) -> Any:
            return given

    with pytest.raises(ConfigError, match=rf"^Halves\.parts_of.*: expected .*, found {found}"):
        breakdown(Halves(), [said(0, "yes"), said(1, "no")], names(2))


def test_breakdown_tells_files_apart() -> None:
    predictions = [said(0, "yes", key="d/testA.jsonl:1"), said(1, "no", key="d/testB.jsonl:1")]
    assert scores(breakdown(ExactMatch(), predictions, names(2))["file"]) == [
        ("testA.jsonl", 1, 1.0),
        ("testB.jsonl", 1, 0.0),
    ]


def test_breakdown_of_boxes_has_their_sizes() -> None:
    boxes = [Box(x1=40, y1=7, x2=40 + side, y2=7 + side) for side in (31.9, 32, 96, 96.1)]
    predictions = [
        Prediction(key="a.jsonl:1", index=index, text="", boxes=(box,), truth=GroundTruth(boxes=(box,)))
        for index, box in enumerate(boxes)
    ]
    found = scores(breakdown(REC(), predictions, names(4))["box size"])
    assert sorted(found) == [("large (> 96²)", 1, 1.0), ("medium", 2, 1.0), ("small (< 32²)", 1, 1.0)]
    absent = Prediction(key="a.jsonl:1", index=4, text="", truth=GroundTruth(no_target=True))
    found = scores(breakdown(REC(), [*predictions, absent], names(5))["box size"])
    assert found[0] == ("(none)", 1, 1.0)
    several = replace(predictions[0], index=5, truth=GroundTruth(boxes=tuple(boxes[:2])))
    assert breakdown(BoxesF1(), [*predictions, several], names(5)) == {}


def test_breakdown_of_expressions_has_their_lengths() -> None:
    counts = (1, 2, 3, 5, 6, 10, 11, 20, 21)
    predictions = [replace(said(index, "yes"), expression="x " * count) for index, count in enumerate(counts)]
    found = breakdown(ExactMatch(), predictions, names(len(counts)))["words of the expression"]
    assert [(part.value, part.count) for part in found] == [
        *((value, 2) for value in ("1 to 2", "3 to 5", "6 to 10", "11 to 20")),
        ("more than 20", 1),
    ]
    assert breakdown(ExactMatch(), [*predictions, said(9, "yes")], names(10)) == {}


def boxed(index: int, side: float = 9, **group: Category) -> Prediction:
    """Right answers at even places, wrong ones at odd places."""
    box, other = Box(x1=0, y1=0, x2=side, y2=side), Box(x1=side, y1=side, x2=2 * side, y2=2 * side)
    answer = box if index % 2 == 0 else other
    return replace(said(index, ""), boxes=(answer,), truth=GroundTruth(boxes=(box,)), group=group)


def polled(index: int, text: str, truth: str, category: str) -> Prediction:
    return replace(said(index, text, category=category), truth=GroundTruth(texts=(truth,)))


POINTED = [
    replace(boxed(0, cell="a"), points=(Point(x=1, y=1),), boxes=()),
    replace(boxed(1, cell="a"), points=(Point(x=1, y=1),), boxes=()),
    replace(boxed(2, cell="b"), points=(Point(x=99, y=1),), boxes=()),
]
OWN: list[tuple[Metric, str, list[Prediction], list[tuple[str, int, float]]]] = [
    (
        POPE(),
        "category",
        [
            polled(0, "Yes.", "yes", "random"),
            polled(1, "Yes.", "no", "random"),
            polled(2, "No.", "no", "popular"),
            polled(3, "Yes.", "yes", "popular"),
        ],
        [("popular", 2, 1.0), ("random", 2, 2 / 3)],
    ),
    (
        RefL4(group=None),
        "box size",
        [boxed(0, 100), boxed(1, 100), boxed(2, 200), boxed(4, 300)],
        [("large", 1, 1.0), ("medium", 1, 1.0), ("small", 2, 0.5)],
    ),
    (
        PhraseGrounding(),
        "type",
        [boxed(0, type="people/bodyparts"), boxed(1, type="people"), boxed(2, type="animals")],
        [("animals", 1, 1.0), ("bodyparts", 1, 1.0), ("people", 2, 0.5)],
    ),
    (
        DensityF1(),
        "domain",
        [boxed(0, domain="face"), boxed(1, domain="face"), boxed(2, domain="pose")],
        [("face", 2, 0.5), ("pose", 1, 1.0)],
    ),
    (PointIn(group="cell"), "cell", POINTED, [("a", 2, 1.0), ("b", 1, 0.0)]),
    (
        Counting(),
        "number",
        [replace(said(n, text), truth=GroundTruth(texts=(true,))) for n, (text, true) in enumerate(("22", "23", "33"))],
        [("2", 1, 1.0), ("3", 2, 0.5)],
    ),
]


@pytest.mark.parametrize(("metric", "name", "predictions", "expected"), OWN, ids=lambda value: type(value).__name__)
def test_breakdown_has_the_parts_of_a_metric_with_intervals_over_images(
    metric: Metric, name: str, predictions: list[Prediction], expected: list[tuple[str, int, float]]
) -> None:
    found = outcome(metric, predictions, names(len(predictions)))
    assert scores(list(found.parts[name])) == [(value, count, pytest.approx(score)) for value, count, score in expected]
    for part in found.parts[name]:
        assert (part.interval is not None) == (part.count > 1)
        for own in (f"{metric.headline}/{part.value}", f"{metric.headline}_{part.value}"):
            assert own not in found.apart
            assert found.scores.get(own, part.score) == pytest.approx(part.score)
    assert set(found.apart) < set(found.scores)
    alone = outcome(metric, predictions, ["one image"] * len(predictions))
    assert all(part.interval is None for part in alone.parts[name])


def test_breakdown_leaves_out_a_part_of_a_metric_that_all_items_share() -> None:
    predictions = [polled(0, "Yes.", "yes", "random"), polled(1, "No.", "no", "random")]
    assert breakdown(POPE(), predictions, names(2)) == {}


def test_breakdown_leaves_out_names_whose_parts_have_no_headline() -> None:
    absent = [replace(boxed(n, kind=kind), truth=GroundTruth(no_target=True)) for n, kind in enumerate("ab")]
    assert breakdown(DensityF1(group=None), absent, names(2)) == {}


def test_kinds_of_leaves_out_what_all_items_share_and_what_tells_each_apart() -> None:
    predictions = [said(n, "yes", split="val", id=n, kind=n % 2) for n in range(201)]
    assert kinds_of(predictions) == {"kind": [str(n % 2) for n in range(201)]}


def test_breakdown_is_that_of_the_records_where_the_metric_has_none() -> None:
    predictions = [boxed(index, type=kind, split=kind) for index, kind in enumerate(("people", "animals"))]
    assert list(breakdown(PhraseGrounding(group=None), predictions, names(2))) == ["type", "split"]
