"""Visual commonsense reasoning: questions about people in boxes, answers and reasons to choose or to write."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal, cast

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import ANSWER, QUESTION, Questions, plain
from mllm.dataset.sets.choice import chosen
from mllm.dataset.sets.vqa import AnswerText
from mllm.errors import DataError
from mllm.fields import PathName, show
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import BOXES, IMAGE

Version = Literal["q-a", "q-ra", "qc-a", "qc-ra", "qc-rac", "qa-r", "qac-r", "q-a-q-r", "qc-a-qc-r"]
VERSIONS = ("q-a", "q-ra", "qc-a", "qc-ra", "qc-rac", "qa-r", "qac-r", "q-a-q-r", "qc-a-qc-r")
TASKS = {"qc-a": "answer", "qac-r": "reason"}
"""What `VCRAccuracy` joins."""
TextAndGroups = tuple[str, list[list[int]]]
"""A text with `<boxes>`, and the group of each."""


@DATASETS.register_module()
class VCR(LineDataset):
    """VCR: questions about people in film scenes, with four answers and four reasons to choose from.

    Lines: `{img_fn, boxes, question, answer_choices, rationale_choices, answer_label, rationale_label}`.

    Texts are lists of words, and of lists of indices into `boxes` (whose fifth number, a certainty, is left out).

    Args:
        version: what is given and what answered, as in Shikra: q question, c options, a answer, r reason. `qc-ra` asks
            with options and answers with the reason and the letter; `qa-r` asks for the reason of a given answer;
            `qac-r` with reasons to choose from; `q-a-q-r` and `qc-a-qc-r` ask for the answer, then for the reason;
            `qc-rac` says reason, answer and letter. Those with a letter as the answer are made for evaluation; `qc-a`
            and `qac-r` of the same lines, as parts of one test set, are scored together by `VCRAccuracy`.
        questions: a pool with `<image>` and `<question>`.
        answer: the text of every answer by letter; holds `<answer>` once.

    Source: Zellers et al. 2019, From Recognition to Cognition, arXiv 1811.10830.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        version: Version = "qc-a",
        answer: AnswerText = "The answer is (<answer>).",
        image_folder: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.version = version
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        rounds, truth = self._rounds(line)
        turns: list[dict[str, Any]] = []
        for (asked, asked_boxes), (said, said_boxes) in rounds:
            if not turns:
                asked = self.questions.draw(rng).replace(QUESTION, asked)
            turns += [
                {"from": "human", "value": asked, "boxes_seq": asked_boxes},
                {"from": "gpt", "value": said, "boxes_seq": said_boxes},
            ]
        return {
            "image": field(line, "img_fn", str),
            "target": {"boxes": [box[:4] if isinstance(box, list) else box for box in field(line, "boxes", list)]},
            "conversations": turns,
            "truth": truth,
            "group": {"task": TASKS[self.version]} if self.version in TASKS else {},
        }

    def _rounds(self, line: dict[str, Any]) -> tuple[list[tuple[TextAndGroups, TextAndGroups]], dict[str, Any] | None]:
        question = _words(line, "question", field(line, "question", list))
        answers, answer, answer_letter, answer_truth = self._choice(line, "answer")
        reasons, reason, reason_letter, reason_truth = self._choice(line, "rationale")
        given, why = _joined(question, ("Answer:", []), answer, between="\n"), ("Why?", cast(list[list[int]], []))
        choose, choose_why = _joined(question, answers, between="\n"), _joined(why, reasons, between="\n")
        version = self.version
        if version == "q-a":
            return [(question, answer)], _texts(answer)
        if version == "q-ra":
            return [(question, _joined(reason, answer))], _texts(answer)
        if version == "qc-a":
            return [(choose, answer_letter)], answer_truth
        if version == "qc-ra":
            return [(choose, _joined(reason, answer_letter))], answer_truth
        if version == "qc-rac":
            return [(choose, _joined(reason, answer, answer_letter))], answer_truth
        if version == "qa-r":
            return [(_joined(given, why, between="\n"), reason)], _texts(reason)
        if version == "qac-r":
            return [(_joined(given, choose_why, between="\n"), reason_letter)], reason_truth
        if version == "q-a-q-r":
            return [(question, answer), (why, reason)], _texts(reason)
        return [(choose, answer_letter), (choose_why, reason_letter)], reason_truth

    def _choice(
        self, line: dict[str, Any], kind: str
    ) -> tuple[TextAndGroups, TextAndGroups, TextAndGroups, dict[str, Any]]:
        """Options in a row, the right one, its letter as an answer, and the truth."""
        name = f"{kind}_choices"
        choices = [_words(line, f"{name}[{n}]", choice) for n, choice in enumerate(field(line, name, list))]
        letter, truth = chosen(line, f"{kind}_label", [text for text, _ in choices])
        options = [(f"({chr(ord('A') + n)}) {text}", groups) for n, (text, groups) in enumerate(choices)]
        right = choices[field(line, f"{kind}_label", int)]
        return _joined(*options), right, (self.answer.replace(ANSWER, letter), []), truth


def _words(line: dict[str, Any], name: str, tokens: Any) -> TextAndGroups:
    if not isinstance(tokens, list) or not tokens:
        expected = "a list of words and lists of indices"
        raise DataError(field=name, expected=expected, found=show(cast("object", tokens)), kind="wrong-type")
    said: list[str] = []
    groups: list[list[int]] = []
    for token in cast(list[Any], tokens):
        if isinstance(token, list):
            groups.append(cast(list[int], token))
            said.append(BOXES)
        elif isinstance(token, str):
            said.append(plain(token, name))
        else:
            expected = "words and lists of indices"
            raise DataError(field=name, expected=expected, found=show(token), kind="wrong-type")
    return " ".join(said), groups


def _joined(*parts: TextAndGroups, between: str = " ") -> TextAndGroups:
    return between.join(text for text, _ in parts), [group for _, groups in parts for group in groups]


def _texts(words: TextAndGroups) -> dict[str, Sequence[str]]:
    return {"texts": [words[0].replace(BOXES, "").strip()]}
