from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.dataset.sets.instruct import Instruct
from mllm.dataset.sets.moments import Moments
from mllm.errors import ConfigError, DataError
from mllm.images import VideoFrame
from mllm.types import Item


def lines(folder: Path, *records: Any) -> str:
    (folder / "v").mkdir(exist_ok=True)
    for number in range(4):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(folder / "v" / f"v-{number:06}.jpg")
    (folder / "pool.json").write_text('["<video>\\nWhen: <expr>?"]')
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def moments(folder: Path, *records: Any, **given: Any) -> list[Item]:
    path = lines(folder, *records)
    dataset = Moments(filename=path, image_folder=str(folder), questions=str(folder / "pool.json"), **given)
    return [dataset[index] for index in range(len(dataset))]


LINE = {"video": "v", "expression": "he sits", "spans": [[0.25, 1.5]]}


def test_a_moment_is_asked_of_the_frames_of_its_folder(tmp_path: Path) -> None:
    (item, none) = moments(tmp_path, {**LINE, "duration": 2.1}, {**LINE, "spans": []}, fps=2)
    assert [ref.time for ref in item.images if isinstance(ref, VideoFrame)] == [0, 0.5, 1, 1.5]
    assert item.turns[0].text == "<image>" * 4 + "\nWhen: he sits?"
    assert [(span.start, span.end) for span in item.truth.time_spans] == [(0.25, 1.5)]
    assert (item.duration, none.duration, item.expression) == (2.1, 2, "he sits")
    assert none.truth.no_target


def test_a_video_may_be_given_by_its_frames(tmp_path: Path) -> None:
    video = {"frames": ["v/v-000001.jpg", "v/v-000003.jpg"], "times": [1, 3]}
    (item,) = moments(tmp_path, {**LINE, "video": video}, answer="From <spans>.")
    assert len(item.images) == 2
    assert item.turns[1].text == "From <spans>."


@pytest.mark.parametrize(
    ("line", "given", "message"),
    [
        (LINE, {}, "video: expected the argument 'fps' of the dataset, for a folder of frames, found none"),
        ({**LINE, "video": 7}, {"fps": 1}, "video: expected the folder of its frames, or an object with"),
        ({**LINE, "spans": [[2, 1]]}, {"fps": 1}, r"target.spans\[0\]: expected seconds with 0 <= start <= end"),
        ({"video": "v", "expression": "x"}, {"fps": 1}, "spans: expected a list, found nothing"),
    ],
)
def test_errors_name_the_line_and_the_field(line: Any, given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        moments(tmp_path, line, **given)
    assert str(caught.value).startswith(f"{tmp_path}/lines.jsonl:1: ")


def test_the_pool_asks_of_a_video(tmp_path: Path) -> None:
    path = lines(tmp_path, LINE)
    (tmp_path / "pool.json").write_text('["<image> <expr>?"]')
    with pytest.raises(ConfigError, match="entry 0: expected <image> nowhere, found once"):
        Moments(filename=path, questions=str(tmp_path / "pool.json"))


def test_instruct_takes_a_video_with_boxes_on_frames(tmp_path: Path) -> None:
    video = {"folder": "v", "fps": 2}
    record = {
        "video": video,
        "target": {"boxes": [[1, 2, 9, 8]], "boxes_time": [1.4]},
        "conversations": [
            {"from": "human", "value": "Where is he?"},
            {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
        ],
    }
    item = Instruct(filename=lines(tmp_path, record), image_folder=str(tmp_path))[0]
    assert item.turns[0].text == "<image>" * 4 + "\nWhere is he?"
    assert item.boxes[0].image == 3
