"""GQA: questions about real scenes, whose words, answers and programs name objects of a scene graph."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from mllm.dataset.base import LineDataset
from mllm.dataset.files.id_index import index_by_id
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.dataset.questions import ANSWER, QUESTION, Questions, fill, text_field
from mllm.dataset.sets.vqa import AnswerText, sentence
from mllm.errors import ConfigError, DataError
from mllm.fields import OneOf, PathName, show
from mllm.json_fields import field, number
from mllm.registry import DATASETS
from mllm.types import BOXES, IMAGE

VERSIONS = tuple(f"{asked}-{answered}" for asked in ("q", "qb", "qbp") for answered in ("a", "c", "bc", "s", "bs"))

_REFERENCE = re.compile(r"\s*\((\d+(?:,\d+)*|-)\)")
"""In a program: the objects that a step found, or none."""
_SPAN = re.compile(r"(\d{1,6})(?::(\d{1,6}))?")
_END = re.compile(r"[.,;:?!]*$")


@DATASETS.register_module()
class GQA(LineDataset):
    """GQA: compositional questions about photos, also with boxes.

    Lines: `{imageId, question, answer, fullAnswer, semanticStr, annotations}`, or the public files of records by id.

    Args:
        filename: as the public `train_balanced_questions.json`, or such records as lines.
        version: what is asked, then what answered. "q" the question, "qb" with the boxes of its objects, "qbp" with
            them in half of the draws and in none of the evaluation; "a" the answer, "c" the full sentence before it,
            "bc" the same with boxes, "s" the program before it, "bs" the same with boxes.
        scene_graphs: the public `train_sceneGraphs.json`, `{imageId: {objects: {id: {x, y, w, h}}}}`; only versions
            with boxes read it.
        questions: a pool with `<image>` and `<question>`.
        answer: the text of every answer; holds `<answer>` once.

    Shikra's `c` and `bc` take sentences that its authors wrote (`cot`), which are not in the public files.

    Source: Hudson and Manning 2019, arXiv 1902.09506.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        version: Annotated[str, OneOf(VERSIONS)] = "q-a",
        scene_graphs: PathName | None = None,
        image_folder: str | None = None,
        answer: AnswerText = "The answer is <answer>.",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed, entries=())
        self.asked, self.answered = version.split("-")
        if "b" in version and scene_graphs is None:
            expected = f"the file with the boxes of the objects, which version {version!r} needs"
            raise ConfigError(field="scene_graphs", expected=expected, found="nothing")
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer
        self.scenes = None if scene_graphs is None else IndexedJsonl(scene_graphs, entries=())
        self._scene_ids = None if self.scenes is None else index_by_id(self.scenes)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        template = self.questions.draw(rng)
        with_boxes = self.asked == "qb" or (self.asked == "qbp" and rng is not None and rng.random() < 0.5)
        boxes: list[list[float]] = []
        objects = Objects("", "", {})
        if with_boxes or self.answered.startswith("b"):
            objects = self._objects(line)
        question, asked_boxes = text_field(line, "question"), list[list[int]]()
        if with_boxes:
            question, asked_boxes = self._marked(line, "question", objects, boxes)
        said, said_boxes = self._said(line, objects, boxes)
        return {
            "image": f"{field(line, 'imageId', str)}.jpg",
            "target": {"boxes": boxes},
            "conversations": [
                {"from": "human", "value": template.replace(QUESTION, question), "boxes_seq": asked_boxes},
                {"from": "gpt", "value": said, "boxes_seq": said_boxes},
            ],
            "truth": {"texts": [line["answer"]]},
        }

    def _said(self, line: dict[str, Any], objects: Objects, boxes: list[list[float]]) -> tuple[str, list[list[int]]]:
        last = fill(self.answer, {ANSWER: text_field(line, "answer")})
        groups: list[list[int]] = []
        if self.answered == "a":
            return last, groups
        if self.answered == "bc":
            words, groups = self._marked(line, "fullAnswer", objects, boxes)
        elif self.answered == "c":
            words = text_field(line, "fullAnswer")
        else:
            program = text_field(line, "semanticStr")
            if self.answered == "bs":
                for found in _REFERENCE.findall(program):
                    if found != "-":
                        groups.append(objects.add(found, boxes))
                words = _REFERENCE.sub(lambda match: "" if match[1] == "-" else BOXES, program)
            else:
                words = _REFERENCE.sub("", program)
        return f"{sentence(words)} {last}", groups

    def _objects(self, line: dict[str, Any]) -> Objects:
        assert self.scenes is not None
        assert self._scene_ids is not None
        image = field(line, "imageId", str)
        found = self._scene_ids.find(image)
        if found is None:
            raise DataError(
                field="imageId", expected=f"an image of {self.scenes.path}", found=show(image), kind="missing-record"
            )
        try:
            known = field(self.scenes[found[0]], "objects", dict, image)
        except DataError as error:
            raise error.at(self.scenes.path) from error
        return Objects(self.scenes.path, f"{image}.objects", known)

    def _marked(
        self, line: dict[str, Any], name: str, objects: Objects, boxes: list[list[float]]
    ) -> tuple[str, list[list[int]]]:
        """The words of `line[name]` with `<boxes>` after each span that names objects; spans count words, `2:4` two."""
        words = text_field(line, name).split()
        marks: dict[int, list[int]] = {}
        for span, named in field(field(line, "annotations", dict), name, dict, "annotations").items():
            found = _SPAN.fullmatch(span)
            last = -1 if found is None else int(found[2]) - 1 if found[2] else int(found[1])
            if not 0 <= last < len(words):
                expected = f"a span of {len(words)} words such as 2:4"
                raise DataError(field=f"annotations.{name}", expected=expected, found=show(span), kind="wrong-type")
            marks[last] = marks.get(last, []) + objects.add(str(named), boxes)
        for place in marks:
            end = _END.search(words[place])
            cut = end.start() if end else len(words[place])
            words[place] = f"{words[place][:cut]}{BOXES}{words[place][cut:]}"
        return " ".join(words), [marks[place] for place in sorted(marks)]


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a scene graph, the file that holds it, and where they stand in it."""

    path: str
    at: str
    known: Mapping[str, Any]

    def add(self, found: str, boxes: list[list[float]]) -> list[int]:
        """The places in `boxes` of these objects, `12,34`; those that are not there yet are put there."""
        group: list[int] = []
        for key in found.split(","):
            if key not in self.known:
                raise DataError(expected="an object of the image's scene graph", found=show(key), kind="missing-record")
            try:
                x, y, width, height = (number(self.known[key], name, f"{self.at}.{key}") for name in "xywh")
            except DataError as error:
                raise error.at(self.path) from error
            box = [x, y, x + width, y + height]
            if box not in boxes:
                boxes.append(box)
            group.append(boxes.index(box))
        return group
