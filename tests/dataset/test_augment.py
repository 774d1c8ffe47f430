from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mllm.dataset.augment import flipped_item, padded_item, scaled_item
from mllm.errors import ConfigError, ImageError
from mllm.images import MemoryImage, Video
from mllm.records import read_item
from mllm.registry import DATASETS
from mllm.types import Box, Item

SIDES = st.integers(8, 90)
FRACTIONS = st.tuples(st.floats(0, 0.999), st.floats(0, 0.999))
RED, BLUE = (255, 0, 0), (0, 0, 255)


def painted(width: int, height: int, box: tuple[int, int, int, int]) -> Item:
    """A black image with a red box, the item that points at it and at its middle."""
    image = Image.new("RGB", (width, height))
    image.paste(RED, box)
    return about(MemoryImage(image), box)


def about(image: Any, box: Sequence[float], question: str = "Where?", answer: str = "<boxes>") -> Item:
    x1, y1, x2, y2 = box
    return read_item(
        {
            "image": image,
            "target": {"boxes": [[x1, y1, x2, y2]], "points": [[(x1 + x2) / 2, (y1 + y2) / 2]]},
            "conversations": [
                {"from": "human", "value": f"<image>\n{question} <points>", "points_seq": [[0]]},
                {"from": "gpt", "value": answer, "boxes_seq": [[0]]},
            ],
        },
        key="a",
    )


@st.composite
def paintings(draw: st.DrawFn) -> Item:
    width, height = draw(SIDES), draw(SIDES)
    x1, y1 = draw(st.integers(0, width - 4)), draw(st.integers(0, height - 4))
    return painted(width, height, (x1, y1, draw(st.integers(x1 + 4, width)), draw(st.integers(y1 + 4, height))))


def check_red_is_under_the_box(item: Item, tolerance: float) -> None:
    pixels = np.asarray(item.images[0].open()).astype(int)
    assert pixels.shape[:2] == item.images[0].size[::-1]
    rows, columns = np.nonzero((pixels[..., 0] > 127) & (pixels[..., 2] < 128))
    (box,) = item.boxes
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert found == pytest.approx(box.xyxy, abs=tolerance)
    assert item.truth.boxes == (box,)
    assert item.points[0].xy == pytest.approx(((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2))


@given(paintings())
def test_a_flip_takes_the_box_along(item: Item) -> None:
    flipped = flipped_item(item)
    assert flipped is not None
    check_red_is_under_the_box(flipped, 0)
    again = flipped_item(flipped)
    assert again is not None
    assert replace(again, images=item.images) == item
    assert again.images[0].open().tobytes() == item.images[0].open().tobytes()


@given(paintings(), st.floats(0.5, 3), FRACTIONS)
def test_scaling_takes_the_box_along_and_never_cuts_it(item: Item, factor: float, place: tuple[float, float]) -> None:
    scaled = scaled_item(item, factor, place, BLUE)
    check_red_is_under_the_box(scaled, 1)
    width, height = scaled.images[0].size
    (box,) = scaled.boxes
    assert (width, height) == item.images[0].size
    assert min(box.x1, box.y1, width - box.x2, height - box.y2) >= -1e-6


@given(paintings())
def test_padding_takes_the_box_along(item: Item) -> None:
    square = padded_item(item, BLUE)
    check_red_is_under_the_box(square, 0)
    width, height = item.images[0].size
    assert square.images[0].size == (max(width, height),) * 2
    pixels = np.asarray(square.images[0].open())
    assert (pixels == BLUE).all(axis=2).sum() == max(width, height) ** 2 - width * height
    assert (square == item) == (width == height)


@given(paintings(), st.floats(0.5, 1), FRACTIONS)
def test_one_after_another(item: Item, factor: float, place: tuple[float, float]) -> None:
    flipped = flipped_item(item)
    assert flipped is not None
    check_red_is_under_the_box(padded_item(scaled_item(flipped, factor, place, BLUE), BLUE), 1)


def test_a_crop_needs_something_to_hold() -> None:
    item = painted(60, 40, (10, 10, 20, 20))
    assert scaled_item(item, 2, (0.5, 0.5), BLUE) != item
    bare = read_item({"image": item.images[0], "conversations": [{"from": "human", "value": "<image>"}]}, key="a")
    assert scaled_item(bare, 2, (0.5, 0.5), BLUE) == bare
    assert scaled_item(bare, 0.5, (0.5, 0.5), BLUE) != bare
    wide = painted(60, 40, (5, 10, 55, 20))
    assert scaled_item(wide, 2, (0.5, 0.5), BLUE) == wide


def test_all_images_and_turns_of_an_item_move_together() -> None:
    first, second = (MemoryImage(Image.new("RGB", size)) for size in ((60, 40), (30, 50)))
    item = read_item(
        {
            "images": [first, second, first],
            "target": {"boxes": [[0, 0, 10, 10], [5, 0, 10, 10]], "boxes_image": [1, 2]},
            "conversations": [
                {"from": "human", "value": "<image><image><image>Which is on the left?"},
                {"from": "gpt", "value": "The left dog <boxes>.", "boxes_seq": [[1]]},
                {"from": "human", "value": "And the right side?"},
                {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
            ],
        },
        key="a",
    )
    flipped = flipped_item(item)
    assert flipped is not None
    assert [turn.text.replace("<image>", "") for turn in flipped.turns] == [
        *("Which is on the right?", "The right dog <boxes>.", "And the left side?", "<boxes>")
    ]
    assert flipped.boxes == (Box(x1=20, y1=0, x2=30, y2=10, image=1), Box(x1=50, y1=0, x2=55, y2=10, image=2))
    assert flipped.images[0] == flipped.images[2] != flipped.images[1]
    cropped = scaled_item(item, 1.5, (0.3, 0.3), BLUE)
    assert cropped.images[0] == cropped.images[2] != first


def test_the_frames_of_a_video_move_together() -> None:
    (first,) = painted(60, 40, (10, 10, 20, 20)).images
    (second,) = painted(60, 40, (12, 10, 22, 20)).images
    item = about([first, second], (10, 10, 20, 20))
    flipped = flipped_item(item)
    assert flipped is not None
    moved = scaled_item(flipped, 0.5, (0.5, 0.5), BLUE)
    check_red_is_under_the_box(moved, 1)
    (video,) = moved.images
    assert isinstance(video, Video)
    reds = [np.nonzero(np.asarray(frame.open())[..., 0] > 127)[1].min() for frame in video.frames]
    assert reds[1] == reds[0] - 1


def test_truth_follows_and_a_word_that_cannot_refuses() -> None:
    item = about(MemoryImage(Image.new("RGB", (60, 40))), (0, 0, 9, 9), answer="The left dog <boxes>.")
    flipped = flipped_item(item)
    assert flipped is not None
    assert flipped.truth.texts == ("The right dog <boxes>.",)
    assert flipped_item(about(item.images[0], (0, 0, 9, 9), question="Who left the room?")) is None


@pytest.fixture
def rec(jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str], tmp_path: Path) -> dict[str, Any]:
    """Ten lines of one photo: the k-th has x1 = k, and names a side."""
    Image.effect_noise((60, 40), 50).save(tmp_path / "photo.png")
    lines = [{"img_path": "photo.png", "expression": f"cup {k} on the left", "bbox": [k, 3, 30, 20]} for k in range(10)]
    return {
        "type": "REC",
        "filename": jsonl(*lines),
        "image_folder": str(tmp_path),
        "questions": pool(["<image>\n<expr>?"]),
        "answer": "<boxes>",
    }


def items(dataset: Any, epoch: int | None) -> list[Item]:
    dataset.set_epoch(epoch)
    return [dataset[index] for index in range(len(dataset))]


def augmented(dataset: Any, **arguments: Any) -> dict[str, Any]:
    return {"type": "Augmented", "dataset": dataset, **arguments}


ALL = {"flip": 0.5, "scale": [0.7, 1.0], "pad": 0.5, "background": "random"}


def test_epochs_differ_and_follow_from_the_seed(rec: dict[str, Any]) -> None:
    dataset = DATASETS.make(augmented(rec, **ALL))
    first = items(dataset, 0)
    assert items(dataset, 1) != first
    assert items(dataset, 0) == first
    assert items(pickle.loads(pickle.dumps(dataset)), 0) == first  # noqa: S301
    assert items(DATASETS.make(augmented(rec, **ALL, seed=1)), 0) != first
    assert len({item.images[0] for item in first}) == 10


def test_evaluation_draws_nothing(rec: dict[str, Any]) -> None:
    dataset = DATASETS.make(augmented(rec, **{**ALL, "flip": 1.0}))
    plain = items(DATASETS.make(rec), None)
    assert items(dataset, None) == plain
    assert all(one != other for one, other in zip(items(dataset, 0), plain, strict=True))
    assert items(dataset, None) == plain


def test_by_default_nothing_changes(rec: dict[str, Any]) -> None:
    assert items(DATASETS.make(augmented(rec)), 0) == items(DATASETS.make(rec), 0)


def test_half_are_flipped(rec: dict[str, Any]) -> None:
    dataset = DATASETS.make(augmented(rec, flip=0.5))
    count = sum(item.boxes[0].x1 == 30 for epoch in range(40) for item in items(dataset, epoch))
    assert 150 < count < 250


def test_around_one_conversation_for_an_image(rec: dict[str, Any]) -> None:
    same = {"type": "SamePicture", "dataset": rec, "max_turns": 5}
    dataset = DATASETS.make({"type": "ConcatDataset", "datasets": [augmented(same, flip=1.0), same]})
    *flipped, plain, _ = items(dataset, 0)
    for item in flipped:
        assert len(item.images) == 1
        assert {box.x1 for box in item.boxes} == {30}
        assert all("on the right" in turn.text for turn in item.turns[::2])
    assert flipped[0].images == flipped[1].images != plain.images  # a batch holds the mirrored photo once
    with pytest.raises(ConfigError, match="expected one that reads lines, found Augmented"):
        DATASETS.make({"type": "SamePicture", "dataset": augmented(rec)})


def test_rows_filled_with_augmented_items(rec: dict[str, Any]) -> None:
    each = DATASETS.make({"type": "MultiTurn", "dataset": augmented(rec, **ALL), "draws": 2})
    whole = DATASETS.make(augmented({"type": "MultiTurn", "dataset": rec, "draws": 2}, flip=1.0))
    assert all(len(item.images) == 3 and item.extra_rounds == 2 for item in items(each, 0))
    for item in items(whole, 0):
        assert len(set(item.images)) == 1
        assert all("on the right" in turn.text for turn in item.turns[::2])


def test_words_may_refuse_the_flip(rec: dict[str, Any], pool: Callable[..., str]) -> None:
    plain = items(DATASETS.make(rec), 0)
    assert items(DATASETS.make(augmented(rec, flip=1.0, words="refuse")), 0) == plain
    assert items(DATASETS.make(augmented(rec, flip=1.0)), 0) != plain


@pytest.mark.parametrize(
    "record",
    [
        {"image": "photo.png", "conversations": ["<image>Where?", "At [0.2, 0.3, 0.4, 0.5]."]},
        {"conversations": ["How are you?", "Fine."]},
    ],
    ids=["coordinates in words", "no image"],
)
def test_what_cannot_move_stays(
    record: dict[str, Any], jsonl: Callable[..., str], rec: dict[str, Any], tmp_path: Path
) -> None:
    turns = [
        {"from": role, "value": text} for role, text in zip(("human", "gpt"), record["conversations"], strict=True)
    ]
    file = jsonl({**record, "conversations": turns}, name="talks.jsonl")
    talks = {"type": "Instruct", "filename": file, "image_folder": str(tmp_path)}
    dataset = DATASETS.make(augmented(talks, flip=1.0, scale=[0.5, 0.6], pad=1.0))
    assert items(dataset, 0) == items(DATASETS.make(talks), 0)


@pytest.mark.parametrize(
    ("background", "expected"), [("white", (255, 255, 255)), ("mean", (122, 116, 104)), ([1, 2, 3], (1, 2, 3))]
)
def test_the_background(background: Any, expected: tuple[int, ...], rec: dict[str, Any]) -> None:
    (item, *_) = items(DATASETS.make(augmented(rec, pad=1.0, background=background)), 0)
    assert item.images[0].open().getpixel((0, 0)) == expected


def test_random_backgrounds(rec: dict[str, Any]) -> None:
    drawn = items(DATASETS.make(augmented(rec, pad=1.0, background="random")), 0)
    assert len({item.images[0].open().getpixel((0, 0)) for item in drawn}) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip": 1.5}, "flip: expected a number from 0 to 1, found float '1.5'"),
        ({"pad": -1}, "pad: expected a number from 0 to 1, found int '-1'"),
        ({"words": "swop"}, "words: expected one of 'swap', 'refuse', found str 'swop'; did you mean 'swap'"),
        ({"scale": [1.2, 0.8]}, r"scale: expected \[least, most\] factor, found \[1.2, 0.8\]"),
        ({"scale": [0, 1]}, "scale.0: expected a number above 0"),
        ({"scale": [1, 2, 3]}, "scale: expected a list of 2 numbers"),
        ({"scale": 0.8}, "scale: expected"),
        ({"background": 255}, "background: expected .* or a list of 3 whole numbers from 0 to 255, found int"),
        ({"background": "whit"}, "background: expected .* found str 'whit'; did you mean 'white'"),
        (
            {"background": [0, 0, 256]},
            "background.2: expected a whole number from 0 to 255, found int '256'",
        ),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str, rec: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"dataset 'Augmented': {message}"):
        DATASETS.make(augmented(rec, **arguments))


def test_a_missing_image_is_named_with_its_record(rec: dict[str, Any], tmp_path: Path) -> None:
    dataset = DATASETS.make(augmented(rec, flip=1.0))
    dataset.set_epoch(0)
    Path(tmp_path / "photo.png").unlink()
    with pytest.raises(ImageError, match=r"lines\.jsonl:4: .*photo\.png: no such image"):
        dataset[3]


def test_padding_to_a_square_that_is_too_large_is_an_error_of_the_image() -> None:
    record = {
        "image": Image.new("RGB", (1, 30_000)),
        "conversations": [{"from": "human", "value": "<image> What?"}, {"from": "gpt", "value": "A line."}],
    }
    with pytest.raises(
        ImageError, match=r"expected a canvas of .*, found .* for 1 x 30000 pixels; the image is too long"
    ):
        padded_item(read_item(record, key="a.jsonl:1"), (0, 0, 0))
