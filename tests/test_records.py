from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mllm.errors import DataError
from mllm.images import FileImage, VideoFrame
from mllm.images.settings import ImageSettings
from mllm.records import read_item
from mllm.types import Box, GroundTruth, Item, Point, Turn

RECORD: dict[str, Any] = {
    "image": "a.jpg",
    "target": {"boxes": [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 9, 9]], "points": [[1.5, 2.5]]},
    "conversations": [
        {
            "from": "human",
            "value": "What is <boxes> doing with <boxes> in <image>? Is <points> happy?",
            "boxes_seq": [[0, 1], [2]],
            "points_seq": [[0]],
        },
        {"from": "gpt", "value": "The man <boxes> holds them.", "boxes_seq": [[2]], "points_seq": None},
    ],
}


def test_read_item_reads_the_contract() -> None:
    item = read_item(RECORD, key="a:1", folder="photos")
    assert item.key == "a:1"
    assert item.images == (FileImage("photos/a.jpg"),)
    assert item.boxes[1] == Box(x1=5, y1=6, x2=7, y2=8)
    assert item.points == (Point(x=1.5, y=2.5),)
    assert item.turns == (
        Turn(role="human", text=RECORD["conversations"][0]["value"], boxes_seq=((0, 1), (2,)), points_seq=((0,),)),
        Turn(role="gpt", text="The man <boxes> holds them.", boxes_seq=((2,),)),
    )


def test_read_item_leaves_the_record_alone() -> None:
    record = copy.deepcopy(RECORD)
    read_item(record, key="a:1")
    assert record == RECORD


def test_the_last_answer_is_the_truth_by_default() -> None:
    item = read_item(RECORD, key="a:1")
    assert item.truth == GroundTruth(boxes=(Box(x1=0, y1=0, x2=9, y2=9),), texts=("The man <boxes> holds them.",))
    assert item.prompt == item.turns[:1]


def test_a_question_alone_has_no_truth() -> None:
    item = read_item({**RECORD, "conversations": RECORD["conversations"][:1]}, key="a:1")
    assert item.truth == GroundTruth()
    assert item.prompt == item.turns


def test_truth_can_be_given() -> None:
    truth = {"boxes": [1, 0], "points": [0], "texts": ["yes", "yeah"]}
    item = read_item({**RECORD, "truth": truth}, key="a:1")
    assert item.truth == GroundTruth(boxes=(item.boxes[1], item.boxes[0]), points=item.points, texts=("yes", "yeah"))


def test_read_item_reads_labels_masks_and_groups() -> None:
    mask = {"size": [4, 5], "counts": [3, 2, 15]}
    labelled = {**RECORD["target"], "labels": ["man", "kite", "rope"]}
    group = {"category": "person", "length": 3, "occluded": True}
    item = read_item({**RECORD, "target": labelled, "truth": {"masks": [mask]}, "group": group}, key="a:1")
    assert [box.label for box in item.boxes] == ["man", "kite", "rope"]
    assert item.truth.masks == (mask,)
    assert item.group == group
    assert read_item(RECORD, key="a:1").group == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group": "person"}, "a:1: group: expected a dict of names and values, found str 'person'"),
        ({"group": {"a": [1]}}, "a:1: group: expected a text, number or boolean for each name, found 'a': list '[1]'"),
        ({"group": {1: "a"}}, "a:1: group: expected a text, number or boolean for each name, found the name int '1'"),
        (
            {"group": {"a": math.nan}},
            "a:1: group: expected a text, number or boolean for each name, found 'a': float 'nan'",
        ),
        (
            {"target": {**RECORD["target"], "labels": ["man"]}},
            "a:1: target.labels: expected 3 entries, one for each box, found 1",
        ),
        (
            {"target": {**RECORD["target"], "labels": ["man", 1, "x"]}},
            "a:1: target.labels[1]: expected a text, found int '1'",
        ),
        (
            {"truth": {"masks": [{"size": [4, 0], "counts": "x"}]}},
            "a:1: truth.masks[0].size: expected [height, width], found list '[4, 0]'",
        ),
        (
            {"truth": {"masks": [{"size": "45", "counts": "x"}]}},
            "a:1: truth.masks[0].size: expected [height, width], found str '45'",
        ),
        (
            {"truth": {"masks": [{"size": [4, 5], "counts": [3, -2]}]}},
            "a:1: truth.masks[0].counts: expected lengths of runs, found list '[3, -2]'",
        ),
        (
            {"truth": {"masks": [{"size": [10**6, 10**6], "counts": "04"}]}},
            "a:1: truth.masks[0].size: expected at most 268,435,456 pixels, found list '[1000000, 1000000]'",
        ),
        (
            {"truth": {"masks": [{"size": [4, 5]}]}},
            "a:1: truth.masks[0].counts: expected whole numbers, as in COCO's run-length encoding, found nothing",
        ),
        ({"truth": {"masks": [[0, 0, 1, 1]]}}, "a:1: truth.masks[0]: expected a dict, found list '[0, 0, 1, 1]'"),
    ],
)
def test_read_item_refuses_labels_masks_and_groups_that_mean_nothing(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_item({**RECORD, **fields}, key="a:1")
    assert str(caught.value) == message


def test_several_images_name_their_boxes() -> None:
    images = [Image.new("RGB", (8, 8)), Image.new("RGB", (9, 9))]
    item = read_item(
        {
            "images": images,
            "target": {"boxes": [[0, 0, 1, 1], [0, 0, 2, 2]], "boxes_image": [1, 0]},
            "conversations": [
                {"from": "human", "value": "<image><image> <boxes> <boxes>", "boxes_seq": [[0], [1]]},
                {"from": "gpt", "value": "Yes."},
            ],
        },
        key="a:1",
    )
    assert [box.image for box in item.boxes] == [1, 0]
    assert [image.size for image in item.images] == [(8, 8), (9, 9)]


@pytest.mark.parametrize(
    ("answer", "truth", "no_target"),
    [
        ({"value": "<boxes>", "boxes_seq": [[]]}, None, True),
        ({"value": "<points>", "points_seq": [[]]}, None, True),
        ({"value": "<boxes> and <boxes>", "boxes_seq": [[], [0]]}, None, False),
        ({"value": "<boxes> or <points>", "boxes_seq": [[]], "points_seq": [[0]]}, None, False),
        ({"value": "Nowhere."}, None, False),
        ({"value": "Nowhere."}, {"boxes": []}, True),
        ({"value": "Nowhere."}, {"points": []}, True),
        ({"value": "Nowhere."}, {"texts": ["Nowhere."]}, False),
        ({"value": "Nowhere."}, {"boxes": [0]}, False),
    ],
)
def test_a_truth_says_that_there_is_no_region(
    answer: dict[str, Any], truth: dict[str, Any] | None, no_target: bool
) -> None:
    record = {
        "image": Image.new("RGB", (8, 8)),
        "target": {"boxes": [[0, 0, 1, 1]], "points": [[0, 0]]},
        "conversations": [{"from": "human", "value": "<image> Where?"}, {"from": "gpt", **answer}],
        "truth": truth,
    }
    assert read_item(record, key="a:1").truth.no_target is no_target


def test_text_alone_is_an_item() -> None:
    record = {"image": None, "conversations": [{"from": "human", "value": "Hello {0} %s"}]}
    item = read_item(record, key="a:1")
    assert (item.images, item.boxes, item.turns[0].text) == ((), (), "Hello {0} %s")


def turn(number: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["conversations"][number].update(changes)


def target(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["target"].update(changes)


def top(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update(changes)


NAN = math.nan


VIOLATIONS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    # texts
    (
        turn(0, value="<image>\ud83d"),
        r"a:1: conversations[0].value: expected a text, found half a character, \ud83d, behind 7 others",
    ),
    (
        top(truth={"texts": ["yes", "\udc00"]}),
        r"a:1: truth.texts[1]: expected a text, found half a character, \udc00, behind 0 others",
    ),
    # the record
    (
        top(imgs=[]),
        "a:1: expected one of image, images, video, target, conversations, truth, group, expression, system, "
        "found 'imgs'",
    ),
    (top(images=["b.jpg"]), "a:1: expected 'image' or 'images', found both"),
    (top(image=None, images="b.jpg"), "a:1: images: expected a list, found str 'b.jpg'"),
    (top(image=3), "a:1: image: expected a path, a URL or a PIL image, found int '3'"),
    (
        top(image="file:///a.jpg"),
        "a:1: image: file:///a.jpg: expected a protocol among "
        f"{', '.join(ImageSettings().protocols)}, found file://; data_args.images.protocols allows others (zip:// and "
        "tar:// as zip://member::archive)",
    ),
    (top(image=None), "a:1: conversations: expected 0 <image>, one for each image, found 1"),
    # the target
    (top(target=[1]), "a:1: target: expected a dict, found list '[1]'"),
    (
        target(box=[]),
        "a:1: target: expected one of boxes, boxes_image, boxes_frame, boxes_time, points, points_image, "
        "points_frame, points_time, labels, spans, found 'box'",
    ),
    (target(boxes=5), "a:1: target.boxes: expected a list, found int '5'"),
    (target(boxes=[[1, 2, 3]]), "a:1: target.boxes[0]: expected 4 numbers, found list '[1, 2, 3]'"),
    (target(boxes=[[1, 2, 3, "4"]]), """a:1: target.boxes[0]: expected 4 numbers, found list "[1, 2, 3, '4']\""""),
    (target(boxes=[[1, 2, 3, True]]), "a:1: target.boxes[0]: expected 4 numbers, found list '[1, 2, 3, True]'"),
    (target(boxes=["1234"]), "a:1: target.boxes[0]: expected a list, found str '1234'"),
    (target(boxes=[None]), "a:1: target.boxes[0]: expected 4 numbers, found nothing"),
    (
        target(boxes=[[1, 2, 3, 4], [5, 6, 4, 8]]),
        "a:1: target.boxes[1]: expected x1 <= x2 and y1 <= y2 (xyxy, not xywh), found [5, 6, 4, 8]",
    ),
    (target(boxes=[[1, 2, 3, NAN]]), "a:1: target.boxes[0]: expected four finite numbers, found [1, 2, 3, nan]"),
    (target(points=[[1]]), "a:1: target.points[0]: expected 2 numbers, found list '[1]'"),
    (target(points=[[1, math.inf]]), "a:1: target.points[0]: expected two finite numbers, found [1, inf]"),
    (target(boxes_image=[0]), "a:1: target.boxes_image: expected 3 entries, found 1"),
    (
        target(boxes_image=[0, 0, None]),
        "a:1: target.boxes_image: expected a list of indices, found list '[0, 0, None]'",
    ),
    (
        target(boxes_image=[0, 1, 0]),
        "a:1: target.boxes[1]: expected an image of the record, which has 1, found image 1",
    ),
    (
        target(points_image=[-1]),
        "a:1: target.points[0]: expected an image of the record, which has 1, found image -1",
    ),
    # the turns
    (top(conversations=None), "a:1: conversations: expected at least one turn, found none"),
    (top(conversations=[]), "a:1: conversations: expected at least one turn, found none"),
    (top(conversations="hello"), "a:1: conversations: expected a list, found str 'hello'"),
    (top(conversations=["hello"]), "a:1: conversations[0]: expected a dict, found str 'hello'"),
    (
        turn(1, text="x"),
        "a:1: conversations[1]: expected one of from, value, boxes_seq, points_seq, spans_seq, image, found 'text'",
    ),
    (turn(0, **{"from": "user"}), "a:1: conversations[0].from: expected 'human' or 'gpt', found str 'user'"),
    (turn(0, **{"from": "gpt"}), "a:1: conversations[0].from: expected 'human' (turns alternate), found 'gpt'"),
    (turn(1, **{"from": "human"}), "a:1: conversations[1].from: expected 'gpt' (turns alternate), found 'human'"),
    (turn(1, value="x" * 200_001), "a:1: conversations[1].value: expected at most 200,000 characters, found 200,001"),
    (turn(1, value=None), "a:1: conversations[1].value: expected a text, found nothing"),
    (
        turn(1, value="<image><boxes>"),
        "a:1: conversations[1].value: expected <image> in human turns only, found it in an answer",
    ),
    (turn(0, value="<boxes><boxes><points>"), "a:1: conversations: expected 1 <image>, one for each image, found 0"),
    # the groups
    (
        turn(0, boxes_seq=[[0, 1]]),
        "a:1: conversations[0].boxes_seq: expected 2 group(s), one for each <boxes> in the text, found 1",
    ),
    (
        turn(0, boxes_seq=None),
        "a:1: conversations[0].boxes_seq: expected 2 group(s), one for each <boxes> in the text, found 0",
    ),
    (
        turn(1, points_seq=[[0]]),
        "a:1: conversations[1].points_seq: expected 0 group(s), one for each <points> in the text, found 1",
    ),
    (
        turn(0, boxes_seq=[[0], []]),
        "a:1: conversations[0].boxes_seq[1]: expected at least one index in a question, found none",
    ),
    (turn(0, image="a"), "a:1: conversations[0].image: expected the number of an image, found str 'a'"),
    (turn(0, image=True), "a:1: conversations[0].image: expected the number of an image, found bool 'True'"),
    (turn(0, image=1), "a:1: conversations[0].image: expected the number of one of 1 images, in a human turn, found 1"),
    (
        turn(0, image=-1),
        "a:1: conversations[0].image: expected the number of one of 1 images, in a human turn, found -1",
    ),
    (turn(1, image=0), "a:1: conversations[1].image: expected the number of one of 1 images, in a human turn, found 0"),
    (
        turn(1, boxes_seq=[[3]]),
        "a:1: conversations[1].boxes_seq[0]: expected an index from 0 to 2 (the target holds 3), found 3",
    ),
    (
        turn(1, boxes_seq=[[-1]]),
        "a:1: conversations[1].boxes_seq[0]: expected an index from 0 to 2 (the target holds 3), found -1",
    ),
    (
        turn(0, points_seq=[[1]]),
        "a:1: conversations[0].points_seq[0]: expected an index from 0 to 0 (the target holds 1), found 1",
    ),
    (turn(1, boxes_seq=[2]), "a:1: conversations[1].boxes_seq[0]: expected a list, found int '2'"),
    (turn(1, boxes_seq="2"), "a:1: conversations[1].boxes_seq: expected a list, found str '2'"),
    (turn(1, boxes_seq=[[2.0]]), "a:1: conversations[1].boxes_seq[0]: expected a list of indices, found list '[2.0]'"),
    # the truth
    (top(truth=[0]), "a:1: truth: expected a dict, found list '[0]'"),
    (
        top(truth={"box": [0]}),
        "a:1: truth: expected one of boxes, points, spans, texts, options, candidates, masks, found 'box'",
    ),
    (top(truth={"boxes": [3]}), "a:1: truth.boxes: expected an index from 0 to 2 (the target holds 3), found 3"),
    (top(truth={"boxes": [-1]}), "a:1: truth.boxes: expected an index from 0 to 2 (the target holds 3), found -1"),
    (top(truth={"boxes": [[0]]}), "a:1: truth.boxes: expected a list of indices, found list '[[0]]'"),
    (top(truth={"points": 0}), "a:1: truth.points: expected a list, found int '0'"),
    (top(truth={"texts": "yes"}), "a:1: truth.texts: expected a list, found str 'yes'"),
    (top(truth={"texts": ["yes", 3]}), "a:1: truth.texts[1]: expected a text, found int '3'"),
]


@pytest.mark.parametrize(("change", "message"), VIOLATIONS, ids=[message for _, message in VIOLATIONS])
def test_read_item_names_the_record_and_the_field(change: Callable[[dict[str, Any]], None], message: str) -> None:
    record = copy.deepcopy(RECORD)
    change(record)
    with pytest.raises(DataError) as caught:
        read_item(record, key="a:1")
    assert str(caught.value) == message


def test_read_item_refuses_what_is_no_dict() -> None:
    with pytest.raises(DataError, match="a:1: expected a dict, found list"):
        read_item([1, 2], key="a:1")  # pyright: ignore[reportArgumentType]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.sampled_from(["human", "<boxes>", "<image>", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["from", "value", "boxes"]), inner),
    max_leaves=8,
)


def item_or_data_error(record: dict[str, Any]) -> None:
    """Any other exception fails the test."""
    message = "a:1: "
    try:
        read_item(record, key="a:1")
    except DataError as error:
        message = str(error)
    assert message.startswith("a:1: ")


@given(st.sampled_from([*RECORD, "images", "truth"]), JSON)
def test_whatever_a_field_holds_is_an_item_or_a_data_error(field: str, value: Any) -> None:
    item_or_data_error({**RECORD, field: value})


@given(st.sampled_from(["boxes", "points", "boxes_image", "points_image"]), JSON)
def test_whatever_the_target_holds_is_an_item_or_a_data_error(field: str, value: Any) -> None:
    item_or_data_error({**RECORD, "target": {**RECORD["target"], field: value}})


@given(st.sampled_from(["from", "value", "boxes_seq", "points_seq", "image"]), JSON)
def test_whatever_a_turn_holds_is_an_item_or_a_data_error(field: str, value: Any) -> None:
    question, answer = RECORD["conversations"]
    item_or_data_error({**RECORD, "conversations": [question, {**answer, field: value}]})


@given(st.sampled_from(["boxes", "points", "texts"]), JSON)
def test_whatever_the_truth_holds_is_an_item_or_a_data_error(field: str, value: Any) -> None:
    item_or_data_error({**RECORD, "truth": {field: value}})


def asked(question: str, answer: str, **groups: Any) -> list[dict[str, Any]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer, **groups}]


def of_video(count: int, *turns: dict[str, Any], **record: Any) -> Item:
    video = {"frames": [f"{number}.jpg" for number in range(count)], "times": [2 * number for number in range(count)]}
    return read_item({"video": video, "conversations": list(turns), **record}, key="a:1")


def test_frames_of_a_video_stand_for_its_placeholder() -> None:
    item = of_video(20, *asked("<video>\nWhen?", "<spans>", spans_seq=[[]]), target={"spans": [[3, 4.5]]})
    assert item.turns[0].text == "<image>" * 8 + "\nWhen?"
    assert [ref.time for ref in item.images if isinstance(ref, VideoFrame)] == [0, 6, 10, 16, 22, 28, 32, 38]
    assert (item.has_time, item.duration, item.truth.no_target) == (True, None, True)


def test_regions_of_a_video_lie_on_frames_by_number_or_by_time() -> None:
    target = {"boxes": [[0, 0, 1, 1], [1, 1, 2, 2]], "boxes_frame": [19, 7], "points": [[1, 2]], "points_time": [14.9]}
    turns = asked("<video> Where?", "<boxes> <points>", boxes_seq=[[0, 1]], points_seq=[[0]])
    item = of_video(20, *turns, target=target)
    times = [ref.time for ref in item.images if isinstance(ref, VideoFrame)]
    assert len(times) == 8
    assert [times[region.image] for region in (*item.boxes, *item.points)] == [38, 14, 14]


def test_time_spans_are_a_third_kind_of_region() -> None:
    turns = [
        {"from": "human", "value": "What is at <spans>?", "spans_seq": [[1]]},
        {"from": "gpt", "value": "That, and <spans>", "spans_seq": [[0, 1]]},
    ]
    item = read_item({"target": {"spans": [[0, 1], [2, 3.5]]}, "conversations": turns}, key="a:1")
    assert [(span.start, span.end) for span in item.truth.time_spans] == [(0, 1), (2, 3.5)]
    assert item.has_time


VIDEO = {"frames": ["0.jpg", "1.jpg"], "fps": 1}


BROKEN_VIDEOS: list[tuple[dict[str, Any], str]] = [
    ({"video": VIDEO, "image": "a.jpg"}, "expected 'image', 'images' or 'video', found 'image' and 'video'"),
    ({"video": VIDEO, "conversations": asked("When?", "x")}, "conversations: expected one <video>, found 0"),
    ({"video": {"frames": ["a.jpg"]}}, "video: expected 'times', seconds for each frame, or 'fps', found neither"),
    ({"target": {"spans": [[3, 2]]}}, "target.spans[0]: expected seconds with 0 <= start <= end, found [3, 2]"),
    ({"target": {"boxes": [[0, 0, 1, 1]], "boxes_frame": [2]}, "video": VIDEO},
     "target.boxes: expected a frame of the video, which has 2, found frame 2"),
    ({"target": {"boxes": [[0, 0, 1, 1]], "boxes_time": [5]}, "video": VIDEO},
     "target.boxes_time[0]: expected a time from 0 to 2 seconds, found 5"),
    ({"target": {"boxes": [[0, 0, 1, 1]], "boxes_time": [0], "boxes_frame": [0]}, "video": VIDEO},
     "target: expected boxes_image or boxes_frame or boxes_time, found boxes_frame and boxes_time"),
    ({"target": {"boxes": [[0, 0, 1, 1]], "boxes_time": [0]}},
     "target: expected boxes_image, found boxes_time"),
    ({"conversations": [{"from": "human", "value": "<spans>?"}]},
     "conversations[0]: spans_seq: expected 1 group(s), one for each <spans> in the text, found 0"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "message"), BROKEN_VIDEOS, ids=[message for _, message in BROKEN_VIDEOS])
def test_a_broken_video_or_time_span_is_named(record: dict[str, Any], message: str) -> None:
    value = "<video>\nWhen?" if "video" in record else "When?"
    with pytest.raises(DataError) as caught:
        read_item({"conversations": [{"from": "human", "value": value}], **record}, key="a:1")
    assert str(caught.value).removeprefix("a:1: ").replace("conversations[0].", "conversations[0]: ") == message
