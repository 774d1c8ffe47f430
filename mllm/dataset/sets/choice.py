"""Questions with options to choose from: A-OKVQA, ScienceQA."""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, Literal

from mllm.dataset.base import LineDataset
from mllm.dataset.image_names import ImageName, NameTemplate
from mllm.dataset.questions import ANSWER, QUESTION, Questions, fill, plain, text_field
from mllm.dataset.sets.vqa import AnswerText, sentence, texts
from mllm.errors import ConfigError, DataError, nearest
from mllm.fields import PathName, show
from mllm.files import read_json
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import IMAGE

Task = Literal["choice", "direct"]
Explained = Literal["no", "before", "after"]


@DATASETS.register_module()
class AOKVQA(LineDataset):
    """A-OKVQA: questions that need knowledge of the world.

    Lines: `{image_id, question, choices, correct_choice_idx, direct_answers, difficult_direct_answer, rationales}`, the
    records of the public `aokvqa_v1p0_*.json`. In the test split, which has no `correct_choice_idx`, they are questions
    without an answer.

    Args:
        questions: a pool with `<image>` and `<question>`.
        task: "choice": the options are listed and the answer is a letter; "direct": free words, of which training draws
            one person's and evaluation takes the first. For `VQAAccuracy(rule="aokvqa")`.
        difficult: with "direct", also ask the questions marked `difficult_direct_answer`, which the public evaluation
            of direct answers leaves out.
        reason: begin the answer with a rationale, drawn as the direct answers are.
        answer: the text of every answer; holds `<answer>` once.
        image_name: makes the file name from the `image_id`, see `ImageName`.

    Source: Schwenk et al. 2022, arXiv 2206.01718.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        task: Task = "choice",
        difficult: bool = False,
        reason: bool = False,
        answer: AnswerText = "The answer is <answer>.",
        image_folder: str | None = None,
        image_name: NameTemplate = "{:012}.jpg",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer
        self.task = task
        self.reason = reason
        self.image = ImageName(image_name)
        if task == "direct" and not difficult:
            self.keep(lambda line: not _difficult(line))

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        question = text_field(line, "question")
        choices = texts(line, "choices")
        if self.task == "choice":
            question = f"{question}\n{list_choices(choices)}"
        turns = [{"from": "human", "value": fill(self.questions.draw(rng), {QUESTION: question})}]
        image = self.image.of(line, "image_id")
        if line.get("correct_choice_idx") is None:
            return {"image": image, "conversations": turns}
        if self.task == "choice":
            letter, truth = chosen(line, "correct_choice_idx", choices)
        else:
            answers = texts(line, "direct_answers")
            letter, truth = answers[0] if rng is None else rng.choice(answers), {"texts": answers}
        said = fill(self.answer, {ANSWER: letter})
        if self.reason:
            reasons = texts(line, "rationales")
            said = f"{sentence(reasons[0] if rng is None else rng.choice(reasons))} {said}"
        return {"image": image, "conversations": [*turns, {"from": "gpt", "value": said}], "truth": truth}


def _difficult(line: dict[str, Any]) -> bool:
    return "difficult_direct_answer" in line and field(line, "difficult_direct_answer", bool)


@DATASETS.register_module()
class ScienceQA(LineDataset):
    """ScienceQA: school questions with options, half of them with an image.

    The `group` of an item holds the `subject` and `grade` of its problem, and whether it has an `image` and a `hint`:
    what the benchmark is reported by.

    Args:
        filename: the public `problems.json`: `{id: {question, choices, answer, hint, image, lecture, solution,
            split}}`, or such records, with their `id`, as lines.
        splits: the public `pid_splits.json`, `{split: [ids]}`.
        split: one of its keys: train, val, test, minival, minitest, trainval. With neither, all of `filename`.
        questions: a pool with `<question>` alone; where there is an image it stands before.
        pictures: "all" problems, those "with" an image, or those "without".
        explained: whether lecture and solution stand in the answer: "no", "before" the letter or "after" it.
        answer: the text of every answer; holds `<answer>` once.
        image_folder: its images are `{split}/{id}/image.png`, as the public archives unpack.

    Raises:
        ConfigError: an unknown split, one without such problems, or only one of `splits` and `split`.

    Source: Lu et al. 2022, Learn to Explain, arXiv 2209.09513.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        splits: str | None = None,
        split: str | None = None,
        pictures: Literal["all", "with", "without"] = "all",
        explained: Explained = "no",
        answer: AnswerText = "The answer is <answer>.",
        image_folder: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed, entries=())
        self.questions = Questions(questions, (QUESTION,))
        self.explained = explained
        self.answer = answer
        wanted = None if splits is None and split is None else _split(splits, split)

        def is_asked(line: dict[str, Any]) -> bool:
            asked = wanted is None or str(line.get("id")) in wanted
            return asked and (pictures == "all" or bool(line.get("image")) == (pictures == "with"))

        self.keep(is_asked)
        if not len(self):
            raise ConfigError(
                where=filename, expected=f"problems of split {split!r} (pictures: {pictures})", found="none"
            )

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        choices = texts(line, "choices")
        parts = (field(line, "hint", str).strip(), text_field(line, "question"), list_choices(choices))
        asked = "\n".join(part for part in parts if part)
        question = fill(self.questions.draw(rng), {QUESTION: asked})
        image = None
        if line.get("image"):
            question = f"{IMAGE}\n{question}"
            image = f"{field(line, 'split', str)}/{field(line, 'id', str)}/{field(line, 'image', str)}"
        letter, truth = chosen(line, "answer", choices)
        said = fill(self.answer, {ANSWER: letter})
        explanation = " ".join(
            part for name in ("lecture", "solution") if (part := plain(field(line, name, str), name).strip())
        )
        if explanation and self.explained == "before":
            said = f"{sentence(explanation)} {said}"
        elif explanation and self.explained == "after":
            said = f"{said} {explanation}"
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": said}]
        group = {name: field(line, name, str) for name in ("subject", "grade") if name in line}
        known = {"image": image is not None, "hint": bool(parts[0])}
        return {"image": image, "conversations": turns, "truth": truth, "group": {**group, **known}}


def list_choices(choices: Sequence[str]) -> str:
    """`(A) table (B) fork`."""
    if len(choices) > len(ascii_uppercase):
        expected, found = f"at most {len(ascii_uppercase)}", str(len(choices))
        raise DataError(field="choices", expected=expected, found=found, kind="wrong-type")
    return " ".join(f"({letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))


def chosen(line: dict[str, Any], name: str, choices: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The letter of the choice whose index is `line[name]`, and the truth that goes with it.

    Raises:
        DataError: there is no such choice.
    """
    index = field(line, name, int)
    if not 0 <= index < len(choices):
        raise DataError(field=name, expected=f"an index of {len(choices)} choices", found=str(index), kind="wrong-type")
    letter = ascii_uppercase[index]
    return letter, {"texts": [letter], "options": list(choices)}


def _split(path: str | None, split: str | None) -> set[str]:
    if path is None or split is None:
        raise ConfigError(field="splits, split", expected="both or neither", found="one of them")
    known = read_json(path, dict)
    if split not in known:
        raise ConfigError(nearest(split, known), field="split", expected=f"a split of {path}", found=show(split))
    try:
        return {str(key) for key in field(known, split, list)}
    except DataError as error:
        raise error.at(path) from error
