"""OCRBench: text in images, recognised, asked about, or extracted."""

from __future__ import annotations

import random
from typing import Any

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import QUESTION, Questions, fill, text_field
from mllm.dataset.sets.vqa import texts
from mllm.fields import PathName
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import IMAGE


@DATASETS.register_module()
class OCRBench(LineDataset):
    """OCRBench: questions about text in images.

    Lines: `{image_path, question, answers, type, dataset_name}`, the records of the public `OCRBench.json`.

    `answers` is a text or a list of texts, which the metric OCRBench looks for in an answer; the first ends the
    conversation. The `group` of an item holds its `type` and, as `dataset`, its `dataset_name`. `questions` is a pool
    with `<image>` and `<question>`.

    Source: Liu et al. 2023, arXiv 2305.07895.
    """

    def __init__(
        self, *, filename: PathName, questions: PathName, image_folder: str | None = None, seed: int = 0
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        answers = texts(line, "answers") if isinstance(line["answers"], list) else [text_field(line, "answers")]
        return {
            "image": field(line, "image_path", str),
            "conversations": [
                {"from": "human", "value": fill(self.questions.draw(rng), {QUESTION: text_field(line, "question")})},
                {"from": "gpt", "value": answers[0]},
            ],
            "truth": {"texts": answers},
            "group": {"type": field(line, "type", str), "dataset": field(line, "dataset_name", str)},
        }
