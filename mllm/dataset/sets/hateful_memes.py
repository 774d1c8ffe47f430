"""Hateful Memes: is an image with words written on it hateful?"""

from __future__ import annotations

import random
from typing import Any

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import ANSWER, QUESTION, Questions, fill, text_field
from mllm.dataset.sets.vqa import AnswerText
from mllm.errors import DataError
from mllm.fields import PathName, show
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import IMAGE


@DATASETS.register_module()
class HatefulMemes(LineDataset):
    """Hateful Memes: is the meme hateful?

    Lines of the public files: `{id, img, label, text}`, label 1 or 0; without a label, as in the test split, they are
    questions without an answer.

    `questions` is a pool with `<image>` and `<question>`, which becomes the words on the image; `answer` is the text of
    every answer, yes or no, and holds `<answer>` once.

    Source: Kiela et al. 2020, The Hateful Memes Challenge, arXiv 2005.04790.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        image_folder: str | None = None,
        answer: AnswerText = "<answer>",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        question = fill(self.questions.draw(rng), {QUESTION: text_field(line, "text")})
        image = field(line, "img", str)
        asked = {"from": "human", "value": question}
        if "label" not in line:
            return {"image": image, "conversations": [asked]}
        if line["label"] not in (0, 1):
            raise DataError(field="label", expected="0 or 1", found=show(line["label"]), kind="wrong-type")
        said = "yes" if line["label"] else "no"
        return {
            "image": image,
            "conversations": [asked, {"from": "gpt", "value": fill(self.answer, {ANSWER: said})}],
            "truth": {"texts": [said], "options": ["yes", "no"]},
        }
