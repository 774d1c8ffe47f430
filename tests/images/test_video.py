from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.errors import DataError
from mllm.images import VideoFrame, is_reducible, is_remote
from mllm.images.names import name_of
from mllm.images.settings import ImageSettings, configure, current_settings
from mllm.images.video import Clip, read_clip, spread_evenly


@pytest.fixture
def sampling() -> Iterator[Any]:
    before = current_settings()
    yield lambda **given: configure(replace(ImageSettings(), **given))
    configure(before)


def clip(count: int, fps: float = 1.0) -> Clip:
    return read_clip({"frames": [Image.new("RGB", (4, 4)) for _ in range(count)], "fps": fps})


def test_frames_of_a_folder_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name in ("10.png", "9.png", "1.png", "notes.txt"):
        Image.new("RGB", (int(name.split(".")[0]) + 1 if name[0] != "n" else 1, 3)).save(tmp_path / "v" / name, "PNG")
    found = read_clip({"folder": "v", "fps": 2}, str(tmp_path))
    assert [frame.size[0] for frame in found.frames] == [2, 10, 11]
    assert (found.times, found.duration) == ((0, 0.5, 1), 1.5)
    frame = found.frame(1)
    assert name_of(frame) == f"{tmp_path}/v/9.png at 0.5 s"
    assert (frame.open().size, frame.open_reduced((1, 1)).size, is_reducible(frame), is_remote(frame)) == (
        (10, 3),
        (10, 3),
        True,
        False,
    )


@pytest.mark.parametrize(
    ("settings", "count", "fps", "kept", "chosen"),
    [
        ({"num_frames": 4}, 10, 1, (), [0, 3, 6, 9]),
        ({"num_frames": 4}, 3, 1, (), [0, 1, 2]),
        ({"num_frames": 1}, 9, 1, (), [4]),
        ({"num_frames": 8, "fps": 1}, 48, 24, (), [0, 24]),
        ({"num_frames": 8, "fps": 0.5}, 9, 2, (), [0, 4, 8]),
        ({"num_frames": 2, "fps": 1}, 100, 10, (), [0, 90]),
        ({"num_frames": 4}, 10, 1, (5,), [0, 3, 5, 9]),  # in place of the nearest
        ({"num_frames": 2}, 10, 1, (1, 2, 3), [1, 2, 3]),
        ({"num_frames": 4}, 10, 1, (0, 9), [0, 3, 6, 9]),
    ],
)
def test_frames_are_evenly_spread_and_hold_those_that_are_kept(
    settings: dict[str, Any], count: int, fps: float, kept: tuple[int, ...], chosen: list[int], sampling: Any
) -> None:
    sampling(**settings)
    assert clip(count, fps).chosen(kept) == chosen


def test_uneven_times_are_thinned_by_the_clock(sampling: Any) -> None:
    sampling(fps=1.0)
    times = [0, 0.1, 0.2, 3.5, 3.6, 4.1, 9]
    found = read_clip({"frames": [Image.new("RGB", (4, 4)) for _ in times], "times": times})
    assert found.chosen() == [0, 3, 5, 6]


def test_the_nearest_frame_of_a_time() -> None:
    found = clip(4, 2)
    assert [found.nearest(time) for time in (0, 0.2, 0.26, 1.5, 1.9)] == [0, 0, 1, 3, 3]
    with pytest.raises(DataError, match=r"expected a time from 0 to 2 seconds, found 2\.5"):
        found.nearest(2.5)


def test_spread_takes_the_first_and_the_last() -> None:
    assert spread_evenly([3, 5, 8, 9, 12], 3) == [3, 8, 12]


IMAGE = Image.new("RGB", (4, 4))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ("a.mp4", "expected an object with 'frames' or 'folder', found str 'a.mp4'"),
        ({}, "expected 'frames' or 'folder', found neither"),
        ({"frames": [], "fps": 1}, "frames: expected a list of images, found list"),
        ({"frames": [IMAGE]}, "expected 'times', seconds for each frame, or 'fps', found neither"),
        ({"frames": [IMAGE], "fps": 0}, "fps: expected a number above 0, found int '0'"),
        ({"frames": [IMAGE], "times": [1, 2]}, "times: expected 1, one for each frame, found 2"),
        ({"frames": [IMAGE, IMAGE], "times": [1, 1]}, "times: expected rising seconds from 0 on, found list"),
        ({"frames": [7], "fps": 1}, r"frames\[0\]: expected a path, a URL or a PIL image, found int '7'"),
        ({"folder": "../x", "fps": 1}, "folder: ../x/frame: leaves its image_folder"),
        ({"folder": "gone", "fps": 1}, "no such folder of frames"),
        (
            {"frames": [IMAGE], "fps": 1, "rate": 2},
            "expected one of frames, folder, times, fps, duration, found",
        ),
        ({"frames": [IMAGE], "fps": 1, "duration": -1}, "duration: expected a number above 0, found int '-1'"),
    ],
)
def test_errors_name_the_field(video: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_clip(video, str(tmp_path))


def test_frames_at_the_same_time_of_the_same_file_are_one_image() -> None:
    found = clip(2)
    assert found.frame(0) == found.frame(0) != found.frame(1)
    assert isinstance(found.frame(0), VideoFrame)
