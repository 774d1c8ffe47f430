from __future__ import annotations

from dataclasses import replace

from mllm.metrics.breakdown import Part, breakdown
from mllm.metrics.phrase_grounding import PhraseGrounding
from mllm.metrics.rec import REC
from mllm.metrics.text import ExactMatch
from mllm.types import Box, Category, GroundTruth, Prediction


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
    predictions = [said(index, "yes", length=length) for index, length in enumerate((10, 2, 1))]
    assert [part.value for part in breakdown(ExactMatch(), predictions, names(3))["length"]] == ["1", "2", "10"]


def test_breakdown_leaves_out_what_all_items_share_and_what_tells_each_apart() -> None:
    predictions = [said(index, "yes", split="val", id=index) for index in range(201)]
    assert breakdown(ExactMatch(), predictions, names(201)) == {}


def test_breakdown_tells_files_apart() -> None:
    predictions = [said(0, "yes", key="d/testA.jsonl:1"), said(1, "no", key="d/testB.jsonl:1")]
    assert scores(breakdown(ExactMatch(), predictions, names(2))["file"]) == [
        ("testA.jsonl", 1, 1.0),
        ("testB.jsonl", 1, 0.0),
    ]


def test_breakdown_of_boxes_has_their_sizes() -> None:
    boxes = [Box(x1=0, y1=0, x2=side, y2=side) for side in (31.9, 32, 96, 96.1)]
    predictions = [
        Prediction(key="a.jsonl:1", index=index, text="", boxes=(box,), truth=GroundTruth(boxes=(box,)))
        for index, box in enumerate(boxes)
    ]
    found = scores(breakdown(REC(), predictions, names(4))["box size"])
    assert sorted(found) == [("large (> 96²)", 1, 1.0), ("medium", 2, 1.0), ("small (< 32²)", 1, 1.0)]


def test_breakdown_of_expressions_has_their_lengths() -> None:
    counts = (1, 2, 3, 5, 6, 10, 11, 20, 21)
    predictions = [replace(said(index, "yes"), expression="x " * count) for index, count in enumerate(counts)]
    found = breakdown(ExactMatch(), predictions, names(len(counts)))["words of the expression"]
    assert [(part.value, part.count) for part in found] == [
        *((value, 2) for value in ("1 to 2", "3 to 5", "6 to 10", "11 to 20")),
        ("more than 20", 1),
    ]
    assert breakdown(ExactMatch(), [*predictions, said(9, "yes")], names(10)) == {}


def test_breakdown_leaves_out_what_the_metric_breaks_down_itself() -> None:
    box = Box(x1=0, y1=0, x2=9, y2=9)
    predictions = [
        replace(said(index, ""), boxes=(box,), truth=GroundTruth(boxes=(box,)), group={"type": kind, "split": kind})
        for index, kind in enumerate(("people", "animals"))
    ]
    assert list(breakdown(PhraseGrounding(), predictions, names(2))) == ["split"]
    assert list(breakdown(PhraseGrounding(group=None), predictions, names(2))) == ["type", "split"]
