"""Questions that point: PointQA asks about a point or a box, Visual7W asks which of four boxes is meant."""

from __future__ import annotations

import random
from typing import Annotated, Any, Literal

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import ANSWER, QUESTION, Questions, fill, text_field
from mllm.dataset.sets.vqa import AnswerText
from mllm.errors import DataError
from mllm.fields import OneOf, PathName, show
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import BOXES, IMAGE, POINTS

Form = Literal["p", "b", "bp"]
FORMS = ("p", "b", "bp")
ASKED = {"oq": "obj_question", "sq": "super_question", "gq": "general_question"}
"""How LookTwice asks: with the name of the object, with that of a class above it, with neither."""
TWICE = tuple(f"{asked}-{form}" for asked in ASKED for form in FORMS)


@DATASETS.register_module()
class PointQALocal(LineDataset):
    """PointQA Local: a question about what is at a point. Lines: `{file_path, question, answer, bbox, point}`.

    Args:
        version: what stands behind the question: "p" the point, "b" the box, "bp" one of them, drawn in training; in
            evaluation the point.
        questions: a pool with `<image>` and `<question>`.
        answer: the text of every answer; holds `<answer>` once.

    Source: Mani et al. 2020, Point and Ask, arXiv 2011.13681.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        version: Form = "p",
        image_folder: str | None = None,
        answer: AnswerText = "The answer is <answer>.",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.form: Form = version
        self.answer = answer

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        return _asked(line, "question", self.form, self.questions, self.answer, rng)


@DATASETS.register_module()
class PointQATwice(LineDataset):
    """PointQA LookTwice: how many objects of the kind at a point are in the image?

    Lines: `{file_path, obj_question, super_question, general_question, answer, bbox, point}`. `version` is "oq-", "sq-"
    or "gq-", for the question that names the object, a class above it, or neither, and the form as for PointQALocal.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        version: Annotated[str, OneOf(TWICE)] = "gq-p",
        image_folder: str | None = None,
        answer: AnswerText = "The answer is <answer>.",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))
        asked, self.form = version.split("-")
        self.name = ASKED[asked]
        self.answer = answer

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        return _asked(line, self.name, self.form, self.questions, self.answer, rng)


@DATASETS.register_module()
class V7WPointing(LineDataset):
    """Visual7W: which of the boxes answers the question? Lines: `{file_path, question, candidates, answer, point}`.

    `answer` is one of the candidates, `point` lies in it. The candidates stand behind the question, in an order drawn
    from the index and, in training, the epoch.

    Args:
        version: the answer is a box ("b") or a point ("p").
        questions: a pool with `<image>` and `<question>`.

    Source: Zhu et al. 2016, Visual7W, arXiv 1511.03416.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        version: Literal["p", "b"] = "b",
        image_folder: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.version = version

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        candidates, right = field(line, "candidates", list), field(line, "answer", list)
        if right not in candidates:
            expected = "one of the candidates"
            raise DataError(field="answer", expected=expected, found=show(right), kind="missing-record")
        question = text_field(line, "question")
        right_one = candidates.index(right)
        order = list(range(len(candidates)))
        # where the answer stands must not give it away
        (random.Random(f"{question} {right}") if rng is None else rng).shuffle(order)
        form = "a point" if self.version == "p" else "its box"
        offered = " ".join([BOXES] * len(order))
        asked = f"{question} Answer with {form}. Candidates: {offered}"
        target: dict[str, Any] = {"boxes": candidates}
        said: dict[str, Any] = {"value": f"The answer is {BOXES}.", "boxes_seq": [[right_one]]}
        truth: dict[str, Any] = {"boxes": [right_one], "candidates": sorted(order, key=lambda n: n != right_one)}
        if self.version == "p":
            target["points"] = [field(line, "point", list)]
            said = {"value": f"The answer is {POINTS}.", "points_seq": [[0]]}
            truth["points"] = [0]
            del truth["boxes"]
        human = {
            "from": "human",
            "value": self.questions.draw(rng).replace(QUESTION, asked),
            "boxes_seq": [[n] for n in order],
        }
        return {
            "image": field(line, "file_path", str),
            "target": target,
            "conversations": [human, {"from": "gpt", **said}],
            "truth": truth,
        }


def _asked(
    line: dict[str, Any], name: str, form: str, questions: Questions, answer: str, rng: random.Random | None
) -> dict[str, Any]:
    template = questions.draw(rng)
    if form == "bp":
        form = "p" if rng is None else rng.choice("bp")
    region, seq = (POINTS, "points_seq") if form == "p" else (BOXES, "boxes_seq")
    words = text_field(line, name)
    said = fill(answer, {ANSWER: text_field(line, "answer")})
    target = {"points": [field(line, "point", list)]} if form == "p" else {"boxes": [field(line, "bbox", list)]}
    return {
        "image": field(line, "file_path", str),
        "target": target,
        "conversations": [
            {"from": "human", "value": template.replace(QUESTION, f"{words} {region}"), seq: [[0]]},
            {"from": "gpt", "value": said},
        ],
        "truth": {"texts": [line["answer"]]},
    }
