"""Moments of videos that a description means: Charades-STA, ActivityNet Captions, QVHighlights and the like."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, cast

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import EXPR, Questions, fill, text_field
from mllm.errors import DataError
from mllm.fields import Fits, PathName, Positive, show
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import SPANS, VIDEO

SpanAnswer = Annotated[str, Fits(f"a text with {SPANS} in it once", lambda text: text.count(SPANS) == 1)]
"""The text of every answer that is a time span."""


@DATASETS.register_module()
class Moments(LineDataset):
    """The time spans of a video that an expression refers to, as one answer.

    Lines: `{video, expression, spans}`, spans [[start, end], ...] in seconds, [] where there is no such moment. `video`
    is the folder of its frames, or an object as records have it (docs/data.md); `duration` (optional) in seconds.

    Args:
        questions: a pool with `<video>` and `<expr>`.
        fps: frames a second of the folders.
        answer: the text of every answer; holds `<spans>` once.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        image_folder: str | None = None,
        fps: Positive | None = None,
        answer: SpanAnswer = SPANS,
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (VIDEO, EXPR))
        self.fps = fps
        self.answer = answer

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        expression, spans = text_field(line, "expression"), field(line, "spans", list)
        return {
            "video": self._video(line),
            "target": {"spans": spans},
            "expression": expression,
            "conversations": [
                {"from": "human", "value": fill(self.questions.draw(rng), {EXPR: expression})},
                {"from": "gpt", "value": self.answer, "spans_seq": [list(range(len(spans)))]},
            ],
        }

    def _video(self, line: Mapping[str, Any]) -> Mapping[str, Any]:
        video = field(line, "video", object)
        given = {} if line.get("duration") is None else {"duration": line["duration"]}
        if isinstance(video, Mapping):
            return {**given, **cast("Mapping[str, Any]", video)}
        if not isinstance(video, str):
            expected = "the folder of its frames, or an object with 'frames' or 'folder'"
            raise DataError(field="video", expected=expected, found=show(video), kind="wrong-type")
        if self.fps is None:
            expected = "the argument 'fps' of the dataset, for a folder of frames"
            raise DataError(field="video", expected=expected, found="none", kind="missing-field")
        return {"folder": video, "fps": self.fps, **given}
