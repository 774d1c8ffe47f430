"""Questions about an image with a short answer: VQAv2, with reasons VQA-E and VQA-X, yes and no POPE."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import ANSWER, QUESTION, Questions, fill, plain, text_field
from mllm.errors import DataError
from mllm.fields import Fits, PathName, check, in_field, show
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import IMAGE

POPE_CATEGORIES = ("random", "popular", "adversarial")
AnswerText = Annotated[str, Fits(f"a text with {ANSWER} in it once", lambda text: text.count(ANSWER) == 1)]
"""The text of every answer, with a place for the answer alone."""


@DATASETS.register_module()
class VQAv2(LineDataset):
    """VQAv2, and datasets in its layout: short answers by ten annotators.

    Lines: `{image_path, question, annotation: {multiple_choice_answer, answers: [{answer}]}}`.

    The answer is the one most people gave, the truth what all ten of them did. A line without `annotation`, as in the
    test split, is a question without an answer. `questions` is a pool with `<image>` and `<question>`; `answer` is the
    text of every answer and holds `<answer>` once.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        image_folder: str | None = None,
        answer: AnswerText = "The answer is <answer>.",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        question = fill(self.questions.draw(rng), {QUESTION: text_field(line, "question")})
        asked = {"from": "human", "value": question}
        if "annotation" not in line:
            return {"image": field(line, "image_path", str), "conversations": [asked]}
        annotation = field(line, "annotation", dict)
        said = text_field(annotation, "multiple_choice_answer", "annotation")
        answers = [
            field(answer, "answer", str, f"annotation.answers[{number}]")
            for number, answer in enumerate(field(annotation, "answers", list, "annotation"))
        ]
        return {
            "image": field(line, "image_path", str),
            "conversations": [asked, {"from": "gpt", "value": fill(self.answer, {ANSWER: said})}],
            "truth": {"texts": answers},
        }


@DATASETS.register_module()
class VQAReason(LineDataset):
    """VQA-E and VQA-X: a reason, then the answer that follows from it.

    Lines of VQA-E: `{file_path, question, explanation, multiple_answers}`, of VQA-X: `{file_path, question,
    justification, multiple_choice_answer}`, the fields of Shikra's files (vqaex.py of shikras/shikra). Those of the
    published VQA-E differ: tools/convert/vqa_e.py. An explanation is a list of the text and how sure it is; a
    justification a list of texts by different people, of which training draws one and evaluation takes the first.
    `answer` is the text of every answer and holds `<answer>` once, after the reason.

    Source: Li et al. 2018, VQA-E; Park et al. 2018, Multimodal Explanations (VQA-X).
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        kind: Literal["vqa_e", "vqa_x"],
        image_folder: str | None = None,
        answer: AnswerText = "So the answer is <answer>.",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer
        self.kind = kind

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        if self.kind == "vqa_e":
            reasons = texts(line, "explanation", first=True)
            said = text_field(line, "multiple_answers")
        else:
            reasons = texts(line, "justification")
            said = text_field(line, "multiple_choice_answer")
        reason = reasons[0] if rng is None else rng.choice(reasons)
        answer = fill(self.answer, {ANSWER: said})
        return {
            "image": field(line, "file_path", str),
            "conversations": [
                {"from": "human", "value": fill(self.questions.draw(rng), {QUESTION: text_field(line, "question")})},
                {"from": "gpt", "value": f"{sentence(reason)} {answer}"},
            ],
            "truth": {"texts": [said]},
        }


@DATASETS.register_module()
class POPE(LineDataset):
    """Is there a thing in the image? Lines: `{image, text, label}`, label yes or no.

    `questions` and `answer` as for VQAv2. The `group` of an item holds its `category`, random, popular or adversarial:
    that of its line, else the one in the name of the file.

    Source: Li et al. 2023, Evaluating Object Hallucination, arXiv 2305.10355.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        image_folder: str | None = None,
        answer: AnswerText = "The answer is <answer>.",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer
        name = PurePath(filename).name.lower()
        self.category = next((category for category in POPE_CATEGORIES if category in name), None)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        label = field(line, "label", str)
        category = field(line, "category", str) if "category" in line else self.category
        if label not in ("yes", "no"):
            raise DataError(field="label", expected="yes or no", found=show(label), kind="wrong-type")
        return {
            "image": field(line, "image", str),
            "conversations": [
                {"from": "human", "value": fill(self.questions.draw(rng), {QUESTION: text_field(line, "text")})},
                {"from": "gpt", "value": fill(self.answer, {ANSWER: label})},
            ],
            "truth": {"texts": [label], "options": ["yes", "no"]},
            "group": {} if category is None else {"category": category},
        }


def texts(line: dict[str, Any], name: str, *, first: bool = False) -> Sequence[str]:
    """The list of texts `line[name]`, at least one; with `first` the others may be anything and are left out.

    Raises:
        DataError: it is not such a list.
    """
    found = field(line, name, list)
    if first:
        found = found[:1]
    if not found:
        raise DataError(field=name, expected="a list of texts", found="[]", kind="blank-text")
    in_field(name, check, found, list[str], DataError)
    return [plain(text, name) for text in found]


def sentence(text: str) -> str:
    """With a full stop at its end, if there is no sign there."""
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."
