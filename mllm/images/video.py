"""The frames of a video with their times, and which of them a model sees."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from mllm.errors import DataError
from mllm.fields import in_field, is_finite, show
from mllm.images import ImageRef, VideoFrame, image_ref
from mllm.images.fetch import is_url
from mllm.images.settings import current_settings

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Files of a folder that are frames."""
KEYS = ("frames", "folder", "times", "fps", "duration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """All frames that a record gives of a video, in order, each at its time in seconds.

    `duration`: of the video in seconds, None where that is not known.
    """

    frames: tuple[ImageRef, ...]
    times: tuple[float, ...]
    duration: float | None

    def nearest(self, time: float) -> int:
        """The number of the frame that is nearest to a time, the earlier one of two.

        Raises:
            DataError: the time is not within the video.
        """
        last = self.times[-1] if self.duration is None else max(self.duration, self.times[-1])
        if not self.times[0] <= time <= last:
            expected = f"a time from {self.times[0]:g} to {last:g} seconds"
            raise DataError(expected=expected, found=f"{time:g}", kind="region-index")
        after = min(bisect_left(self.times, time), len(self.times) - 1)
        return min((max(after - 1, 0), after), key=lambda number: abs(self.times[number] - time))

    def chosen(self, kept: Collection[int] = ()) -> list[int]:
        """The numbers of the frames that a model sees: `num_frames` of `ImageSettings`, evenly spread, after `fps`.

        Those of `kept` are always among them, in place of the nearest others.
        """
        settings = current_settings()
        numbers = list(range(len(self.frames)))
        if settings.fps is not None:
            numbers = self._apart(1 / settings.fps)
        chosen = set(spread_evenly(numbers, settings.num_frames))
        for number in sorted(kept):
            if number in chosen:
                continue
            others = [other for other in sorted(chosen) if other not in kept]
            if others and len(chosen) >= settings.num_frames:
                chosen.discard(min(others, key=lambda other: abs(other - number)))
            chosen.add(number)
        return sorted(chosen)

    def frame(self, number: int) -> VideoFrame:
        return VideoFrame(ref=self.frames[number], time=self.times[number], duration=self.duration)

    def _apart(self, step: float) -> list[int]:
        """The first frame of each step of time that has one."""
        found: list[int] = []
        due = self.times[0]
        for number, time in enumerate(self.times):
            if time >= due - 1e-6:
                found.append(number)
                due += step * (int((time - due + 1e-6) // step) + 1)
        return found


def spread_evenly(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of the numbers, evenly spread from the first to the last; of one, the middle."""
    if len(numbers) <= most:
        return list(numbers)
    if most == 1:
        return [numbers[(len(numbers) - 1) // 2]]
    return [numbers[round(place * (len(numbers) - 1) / (most - 1))] for place in range(most)]


def read_clip(video: object, folder: str | None = None) -> Clip:
    """The `video` of a record: `frames`, a list of images, or a `folder` of them; and `times` in seconds, or `fps`.

    Raises:
        DataError: names the field.
    """
    if not isinstance(video, Mapping):
        raise DataError(expected="an object with 'frames' or 'folder'", found=show(video), kind="wrong-type")
    fields = cast("Mapping[str, Any]", video)
    for name in fields:
        if name not in KEYS:
            raise DataError(expected=f"one of {', '.join(KEYS)}", found=f"{name!r:.80}", kind="unknown-field")
    frames = _frames(fields, folder)
    times = _times(fields, len(frames))
    duration = fields.get("duration")
    if duration is None and fields.get("fps") is not None:
        duration = len(frames) / fields["fps"]
    if duration is not None:
        duration = in_field("duration", _positive, duration)
    return Clip(frames=frames, times=times, duration=duration)


def _frames(fields: Mapping[str, object], folder: str | None) -> tuple[ImageRef, ...]:
    if (fields.get("frames") is None) == (fields.get("folder") is None):
        found = "neither" if fields.get("frames") is None else "both"
        raise DataError(expected="'frames' or 'folder'", found=found, kind="missing-field")
    if fields.get("folder") is not None:
        return in_field("folder", _in_folder, fields["folder"], folder)
    sources = fields["frames"]
    if not isinstance(sources, Sequence) or isinstance(sources, str) or not sources:
        raise DataError(field="frames", expected="a list of images", found=show(sources), kind="wrong-type")
    return tuple(in_field(f"frames[{number}]", image_ref, source, folder) for number, source in enumerate(sources))


def _in_folder(name: object, folder: str | None) -> tuple[ImageRef, ...]:
    """The images of a folder on a local disk, `2.jpg` before `10.jpg`."""
    if not isinstance(name, str) or not name or is_url(folder or "") or is_url(name):
        expected = "a folder on a local disk (list the frames of others as 'frames')"
        raise DataError(expected=expected, found=show(name), kind="image-path")
    first = image_ref(f"{name}/frame", folder)  # a path that leaves the folder of images is refused here
    path = Path(cast("Any", first).path).parent
    try:
        files = [entry.name for entry in os.scandir(path) if entry.name.lower().endswith(SUFFIXES)]
    except (OSError, ValueError) as error:  # a ValueError is about its name
        raise DataError(where=str(path), message="no such folder of frames", kind="missing-image") from error
    if not files:
        raise DataError(where=str(path), expected="frames", found="no image", kind="missing-image")
    return tuple(image_ref(f"{name}/{file}", folder) for file in sorted(files, key=_naturally))


def _times(fields: Mapping[str, object], count: int) -> tuple[float, ...]:
    if (fields.get("times") is None) == (fields.get("fps") is None):
        found = "neither" if fields.get("times") is None else "both"
        raise DataError(expected="'times', seconds for each frame, or 'fps'", found=found, kind="missing-field")
    if fields.get("fps") is not None:
        fps = in_field("fps", _positive, fields["fps"])
        return tuple(number / fps for number in range(count))
    times = fields["times"]
    if not isinstance(times, Sequence) or not all(map(is_finite, times)):
        raise DataError(field="times", expected="a list of seconds", found=show(times), kind="wrong-type")
    if len(times) != count:
        raise DataError(
            field="times", expected=f"{count}, one for each frame", found=str(len(times)), kind="image-count"
        )
    if times[0] < 0 or any(after <= before for before, after in pairwise(times)):
        raise DataError(field="times", expected="rising seconds from 0 on", found=show(times), kind="coordinates")
    return tuple(map(float, times))


def _positive(value: object) -> float:
    if not is_finite(value) or value <= 0:
        raise DataError(expected="a number above 0", found=show(value), kind="wrong-type")
    return float(value)


def _naturally(name: str) -> list[tuple[bool, int, str]]:
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]
