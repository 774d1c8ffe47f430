from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from mllm.errors import DataError
from mllm.metrics.boxes_f1 import BoxesF1
from mllm.metrics.breakdown import Part
from mllm.metrics.choice import ChoiceAccuracy
from mllm.metrics.detection import Detection
from mllm.metrics.outcome import (
    FIELDS,
    NEEDED,
    OF_EACH,
    PREDICTIONS,
    RESULTS,
    WITHOUT_METRIC,
    ImageIds,
    Outcome,
    as_record,
    check_record,
    iou_or_none,
    outcome,
)
from mllm.metrics.rec import REC
from mllm.metrics.statistics import Interval
from mllm.metrics.text import ExactMatch
from mllm.records import read_item
from mllm.types import Box, GroundTruth, Item, Mask, Point, Prediction, TimeSpan

BOX = Box(x1=0, y1=0, x2=10, y2=10)


def item(key: str, **images: object) -> Item:
    record = {
        **images,
        "conversations": [{"from": "human", "value": "<image>" * (1 if images else 0) + "?"}],
    }
    return read_item(record, key=key)


def test_outcome_is_written_with_its_interval_and_parts() -> None:
    predictions = [
        Prediction(key="a:1", index=0, text="yes", truth=GroundTruth(texts=("yes",)), group={"kind": "cat"}),
        Prediction(key="a:2", index=1, text="no", truth=GroundTruth(texts=("yes",)), group={"kind": "dog"}),
    ]
    record = outcome(ExactMatch(), predictions, ["a", "b"]).as_json("test")
    assert (record["test_exact_match"], record["test_count"]) == (0.5, 2)
    assert record["intervals"] == {"test_exact_match": [0.0, 1.0]}
    assert record["parts"]["kind"] == [
        {"value": "cat", "count": 1, "score": 1.0, "interval": None},
        {"value": "dog", "count": 1, "score": 0.0, "interval": None},
    ]
    assert record["read_by"] == {"text": 2}


def test_outcome_without_a_metric_counts_the_answers() -> None:
    found = outcome(None, [Prediction(key="a", index=0, text="")], ["a"])
    assert found == Outcome(scores={"count": 1})
    assert found.as_json("test") == {"test_count": 1}


def test_outcome_as_json_names_its_headline() -> None:
    alone = Outcome(scores={"acc": 0.5}, headline="acc")
    assert alone.as_json("test") == {"test_acc": 0.5, "headline": "test_acc"}
    sure = replace(alone, interval=Interval(low=0.25, high=0.75))
    assert sure.as_json("test")["intervals"] == {"test_acc": [0.25, 0.75]}
    assert "intervals" not in replace(sure, headline=None).as_json("test")


def test_outcome_sets_the_scores_of_parts_apart() -> None:
    scores = {"acc": 0.5, "acc/cat": 1.0, "acc_cat": 1.0, "acc/kind=cat": 1.0, "acc/dog": 0.0, "mean_acc": 0.5}
    parts = {"kind": [Part(value="cat", count=1, score=1.0, interval=None)]}
    found = Outcome(scores=scores, headline="acc", parts=parts).apart
    assert found == {"acc": 0.5, "acc/dog": 0.0, "mean_acc": 0.5}


def test_image_names_of_several_files_are_listed() -> None:
    record = {"images": ["x.jpg", "y.jpg"], "conversations": [{"from": "human", "value": "<image><image>?"}]}
    assert ImageIds()(read_item(record, key="a")) == "x.jpg, y.jpg"


def test_image_names_are_the_same_for_items_about_the_same_image() -> None:
    name = ImageIds()
    picture = Image.new("RGB", (4, 4))
    assert name(item("a:1", image="x.jpg")) == "x.jpg"
    first = item("a:2", image=picture)
    assert name(first) == name(Item(key="a:3", images=first.images, turns=first.turns)) == "the image of a:2"
    assert name(item("a:4", image=Image.new("RGB", (4, 4)))) == "the image of a:4"
    assert name(item("a:5")) == "a:5"


def test_as_record_holds_the_score_image_labels_and_group_of_an_answer() -> None:
    prediction = Prediction(
        key="a:1",
        index=0,
        text="dog",
        boxes=(Box(x1=0, y1=0, x2=10, y2=6, label="dog"),),
        truth=GroundTruth(boxes=(BOX,)),
        group={"kind": "cat"},
        image_size=(20, 30),
    )
    record = as_record(prediction, image="x.jpg", metric=REC())
    expected = {"image": "x.jpg", "image_size": (20, 30), "score": 1.0, "iou": 0.6, "pred_labels": ["dog"]}
    assert {name: record[name] for name in expected} == expected
    assert record["group"] == {"kind": "cat"}


def test_as_record_has_no_wrong_count_where_a_list_was_asked_for() -> None:
    prediction = Prediction(key="a", index=0, text="", boxes=(BOX, BOX), truth=GroundTruth(boxes=(BOX,)))
    for metric, failure in ((REC(), "wrong_count"), (None, "wrong_count"), (BoxesF1(), None), (Detection(), None)):
        assert as_record(prediction, image="x.jpg", metric=metric)["failure"] == failure


def test_as_record_says_which_image_each_region_lies_on_where_there_are_several() -> None:
    there = replace(BOX, image=2)
    prediction = Prediction(key="a", index=0, text="", boxes=(BOX, there), truth=GroundTruth(boxes=(there, BOX)))
    record = as_record(prediction, image="x.jpg", metric=BoxesF1())
    assert (record["pred_images"], record["target_images"]) == ([0, 2], [2, 0])
    assert not {"candidate_images", "target_labels"} & record.keys()
    alone = replace(prediction, boxes=(there,), truth=GroundTruth(boxes=(there,)))
    assert "pred_images" not in as_record(alone, image="x.jpg", metric=BoxesF1())


def test_as_record_of_a_bare_answer_has_no_more_than_it_needs() -> None:
    bare = Prediction(key="a:1", index=3, text="red", truth=GroundTruth(texts=("red", "crimson")))
    assert as_record(bare, image="x.jpg", metric=None) == {
        "key": "a:1",
        "index": 3,
        "image": "x.jpg",
        "text": "red",
        "pred": [],
        "target": ["red", "crimson"],
        "failure": None,
        "read_by": ("text",),
    }


def test_as_record_holds_what_is_known_of_an_answer_in_words() -> None:
    truth = GroundTruth(texts=("B",), options=("red", "blue"))
    given = Prediction(
        key="a:1",
        index=0,
        text="blue",
        truth=truth,
        expression="the dog",
        demonstrations=("b:1", "b:2"),
        candidate_scores={"blue": -1.0, "red": -2.0},
    )
    record = as_record(given, image="x.jpg", question="Which?", metric=ChoiceAccuracy())
    assert record == {
        "key": "a:1",
        "index": 0,
        "image": "x.jpg",
        "expression": "the dog",
        "question": "Which?",
        "text": "blue",
        "pred": [],
        "target": ["B"],
        "failure": None,
        "read_by": ("ranking",),
        "options": ("red", "blue"),
        "candidate_scores": {"blue": -1.0, "red": -2.0},
        "score": 1.0,
        "demonstrations": ("b:1", "b:2"),
    }


def test_as_record_holds_regions_with_their_scores_labels_and_images() -> None:
    there = replace(BOX, image=1)
    mask: Mask = {"size": [2, 2], "counts": [4]}
    truth = GroundTruth(
        boxes=(replace(BOX, label="cat"), BOX),
        points=(Point(x=1, y=2, image=1),),
        texts=("a cat",),
        candidates=(BOX, there),
        masks=(mask,),
    )
    given = Prediction(
        key="a:1",
        index=0,
        text="there",
        boxes=(replace(BOX, score=0.5),),
        points=(Point(x=3, y=4, image=0), Point(x=5, y=6, image=1)),
        failure="malformed",
        clipped=1,
        read_by=("marked",),
        truth=truth,
    )
    assert as_record(given, image="x.jpg", metric=None) == {
        "key": "a:1",
        "index": 0,
        "image": "x.jpg",
        "text": "there",
        "pred": [(0, 0, 10, 10)],
        "target": [(0, 0, 10, 10)] * 2,
        "failure": "malformed",
        "read_by": ("marked",),
        "clipped": 1,
        "pred_scores": [0.5],
        "pred_points": [(3, 4), (5, 6)],
        "target_points": [(1, 2)],
        "pred_images": [0],
        "target_images": [0, 0],
        "pred_point_images": [0, 1],
        "target_point_images": [1],
        "candidate_images": [0, 1],
        "target_texts": ("a cat",),
        "target_labels": ["cat", None],
        "candidates": [(0, 0, 10, 10)] * 2,
        "masks": (mask,),
    }


@pytest.mark.parametrize(
    ("found", "true"), [((Point(x=1, y=1),), ()), ((), (Point(x=1, y=1),)), ((Point(x=2, y=1),), (Point(x=1, y=1),))]
)
def test_as_record_holds_points_where_an_answer_or_its_truth_has_some(
    found: tuple[Point, ...], true: tuple[Point, ...]
) -> None:
    given = Prediction(key="a", index=0, text="", points=found, truth=GroundTruth(points=true))
    record = as_record(given, image="x.jpg", metric=None)
    assert record["pred_points"] == [point.xy for point in found]
    assert record["target_points"] == [point.xy for point in true]
    assert "pred_point_images" not in record


@pytest.mark.parametrize(("found", "iou"), [((), 0), ((TimeSpan(start=1, end=2),), 0.5)])
def test_as_record_of_time_spans_has_their_iou(found: tuple[TimeSpan, ...], iou: float) -> None:
    truth = GroundTruth(time_spans=(TimeSpan(start=0, end=2),))
    given = Prediction(key="a", index=0, text="", time_spans=found, duration=9.0, truth=truth)
    record = as_record(given, image="x.mp4", metric=None)
    expected = {"pred_spans": [[1, 2]] * len(found), "target_spans": [[0, 2]], "duration": 9.0, "iou": iou}
    assert {name: record[name] for name in expected} == expected


def test_as_record_of_a_span_where_none_is_has_no_iou_of_it() -> None:
    given = Prediction(key="a", index=0, text="", time_spans=(TimeSpan(start=1, end=2),))
    record = as_record(given, image="x.mp4", metric=None)
    assert (record["pred_spans"], record["target_spans"]) == ([[1, 2]], [])
    assert "iou" not in record


def test_as_record_where_nothing_is_has_an_empty_target_and_its_texts() -> None:
    given = Prediction(key="a", index=0, text="", truth=GroundTruth(no_target=True, texts=("nothing",)))
    record = as_record(given, image="x.jpg", metric=None)
    assert (record["target"], record["target_texts"], record["iou"]) == ([], ("nothing",), 1)


def test_iou_or_none_is_that_of_the_box_where_there_are_spans_as_well() -> None:
    truth = GroundTruth(boxes=(BOX,), time_spans=(TimeSpan(start=0, end=2),))
    given = Prediction(key="a", index=0, text="", boxes=(BOX,), truth=truth)
    assert iou_or_none(replace(given, time_spans=truth.time_spans)) == 1
    assert iou_or_none(replace(given, truth=GroundTruth(boxes=(BOX, BOX)))) is None


EVERY_FIELD: dict[str, Any] = {
    "key": "a",
    "index": 0,
    "image": "x.jpg",
    "image_size": [20, 30],
    "expression": None,
    "question": "Where?",
    "text": "there",
    "pred": [[0, 0, 1, 1]],
    "target": [[0, 0, 1, 1], [0, 0, 2, 2]],
    "failure": None,
    "read_by": ["marked"],
    "clipped": 1,
    "pred_labels": ["cat"],
    "pred_scores": [0.5],
    "pred_points": [[1, 2]],
    "target_points": [[1, 2], [3, 4]],
    "pred_images": [0],
    "target_images": [0, 1],
    "pred_point_images": [1],
    "target_point_images": [1, 0],
    "candidate_images": [0, 0, 1],
    "target_texts": ["a cat"],
    "target_labels": ["cat", None],
    "options": ["a", "b"],
    "candidates": [[0, 0, 1, 1]] * 3,
    "masks": [{"size": [2, 2], "counts": [4]}],
    "pred_spans": [[0, 1]],
    "target_spans": [[0, 2]],
    "duration": 9.5,
    "iou": 0.5,
    "candidate_scores": {"a": -1.0},
    "score": 1.0,
    "group": {"kind": "cat"},
    "demonstrations": ["b"],
}


def test_check_record_refuses_a_wrong_value_of_each_field() -> None:
    assert EVERY_FIELD.keys() == FIELDS.keys()
    check_record(EVERY_FIELD | {"mine": object()}, "p.jsonl:1")
    wrong: Any = {"a": [[]]}
    for name in EVERY_FIELD:
        with pytest.raises(DataError, match=rf"^p\.jsonl:1: {name}\b"):
            check_record(EVERY_FIELD | {name: wrong}, "p.jsonl:1")
    for name in EVERY_FIELD:
        left = {field: value for field, value in EVERY_FIELD.items() if field != name and OF_EACH.get(field) != name}
        if name in ("key", "index", "text", "pred", "target"):
            with pytest.raises(DataError, match=rf"^p\.jsonl:1: {name}\b"):
                check_record(left, "p.jsonl:1")
        else:
            check_record(left, "p.jsonl:1")
    assert set(NEEDED) < set(EVERY_FIELD)


def test_check_record_asks_for_an_entry_for_each_region() -> None:
    regions = {
        **dict.fromkeys(("pred_labels", "pred_scores", "pred_images"), "pred"),
        **dict.fromkeys(("target_labels", "target_images"), "target"),
        "pred_point_images": "pred_points",
        "target_point_images": "target_points",
        "candidate_images": "candidates",
    }
    for name, kind in regions.items():
        count = len(EVERY_FIELD[kind])
        for entries in (EVERY_FIELD[name][1:], EVERY_FIELD[name] * 2):
            expected = f"{name}: expected {count} entries, one for each region of {kind}, found {len(entries)}"
            with pytest.raises(DataError, match=re.escape(expected)) as caught:
                check_record(EVERY_FIELD | {name: entries}, "p.jsonl:1")
            assert caught.value.kind == "region-index"
        if kind not in NEEDED:
            with pytest.raises(DataError, match="expected 0 entries"):
                check_record({field: EVERY_FIELD[field] for field in (*NEEDED, name)}, "p.jsonl:1")


def test_check_record_takes_texts_for_no_regions() -> None:
    texts = {name: EVERY_FIELD[name] for name in NEEDED} | {"target": ["a", "b"]}
    check_record(texts | {"target_labels": []}, "p.jsonl:1")
    with pytest.raises(DataError, match="target_labels: expected 0 entries, one for each region of target, found 2"):
        check_record(texts | {"target_labels": ["cat", "dog"]}, "p.jsonl:1")
    check_record(texts | {"pred_labels": ["cat"]}, "p.jsonl:1")


def test_the_files_of_a_test_set_keep_their_names() -> None:
    """`mllm score`, `mllm compare` and the scripts of users look for them."""
    assert (PREDICTIONS, RESULTS, *WITHOUT_METRIC) == ("extra_prediction.jsonl", "results.json", "loss")
