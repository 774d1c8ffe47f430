"""Referential dialogue: questions whose words point, and answers with a chain of thought that points too."""

from __future__ import annotations

import random
from typing import Any, Literal

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import QUESTION, Questions, text_field
from mllm.dataset.sets.caption import PHRASE_END, PHRASE_START, grounded
from mllm.fields import PathName
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import IMAGE

Version = Literal["a", "c", "bc"]
VERSIONS = ("a", "c", "bc")


@DATASETS.register_module()
class ReferentialDialogue(LineDataset):
    """Shikra's generated data.

    Lines: `{img_path, boxes, question, question_boxes_seq, answer, cot_with_ans, answer_boxes_seq}`; in question and
    cot_with_ans `<ph_st>a phrase<ph_ed>`, in the `boxes_seq` the indices into boxes of each phrase.

    Args:
        version: what is answered: "a" the answer alone, "c" a chain of thought that ends in it, "bc" the same with the
            boxes of its phrases.
        questions: a pool with `<image>` and `<question>`, which asks for just that.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        version: Version = "bc",
        image_folder: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.version = version
        self.questions = Questions(questions, (IMAGE, QUESTION))

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        asked = grounded(line, "question", "question_boxes_seq")
        question = self.questions.draw(rng).replace(QUESTION, asked["value"])
        return {
            "image": field(line, "img_path", str),
            "target": {"boxes": field(line, "boxes", list)},
            "conversations": [
                {"from": "human", "value": question, "boxes_seq": asked["boxes_seq"]},
                {"from": "gpt", **self._answer(line)},
            ],
        }

    def _answer(self, line: dict[str, Any]) -> dict[str, Any]:
        if self.version == "a":
            return {"value": text_field(line, "answer")}
        if self.version == "c":
            words = text_field(line, "cot_with_ans")
            return {"value": words.replace(PHRASE_START, "").replace(PHRASE_END, "")}
        return grounded(line, "cot_with_ans", "answer_boxes_seq")
