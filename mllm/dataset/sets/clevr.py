"""CLEVR: questions about rendered solids, answered by a program whose steps can be pointed at."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from mllm.dataset.base import LineDataset
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.dataset.questions import ANSWER, QUESTION, Questions, fill, text_field
from mllm.dataset.sets.vqa import AnswerText
from mllm.errors import ConfigError, DataError, nearest
from mllm.fields import PathName, show
from mllm.json_fields import field, number
from mllm.registry import DATASETS
from mllm.types import IMAGE, POINTS

Version = Literal["q-a", "q-s", "q-bs"]
VERSIONS = ("q-a", "q-s", "q-bs")
Found = list[int]
"""Numbers of objects of a scene."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene of the file, checked."""

    objects: Sequence[Mapping[str, Any]]
    relations: Mapping[str, Sequence[Found]]
    """Of each object the numbers of those that lie left of it, right, in front, behind."""


@DATASETS.register_module()
class CLEVR(LineDataset):
    """CLEVR: questions about rendered scenes, also with the steps to the answer.

    Lines: `{image_filename, image_index, question, answer, program}`, or the public file that holds `questions`.

    Args:
        filename: as the public `CLEVR_train_questions.json`, or its questions as lines.
        version: what is answered: "q-a" the answer, "q-s" the steps of the program before it, "q-bs" the same with the
            point of each object that a step found.
        scenes: the public `CLEVR_train_scenes.json`, or its scenes as lines; only "q-bs" reads it.
        questions: a pool with `<image>` and `<question>`.
        answer: the text of every answer; holds `<answer>` once.

    Source: Johnson et al. 2017, CLEVR, arXiv 1612.06890, with the functions of its programs.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        version: Version = "q-a",
        scenes: PathName | None = None,
        image_folder: str | None = None,
        answer: AnswerText = "The answer is <answer>.",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed, entries=("questions",))
        if version == "q-bs" and scenes is None:
            expected = "the file with the objects' places, which version 'q-bs' needs"
            raise ConfigError(field="scenes", expected=expected, found="nothing")
        self.version = version
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer
        lines = None if scenes is None or scenes.endswith(".jsonl") else ("scenes",)
        self.scenes = None if scenes is None else IndexedJsonl(scenes, lines)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        question = fill(self.questions.draw(rng), {QUESTION: text_field(line, "question")})
        said = fill(self.answer, {ANSWER: text_field(line, "answer")})
        points: list[list[float]] = []
        groups: list[Found] = []
        if self.version != "q-a":
            steps, groups, points = self._steps(line)
            said = f"{' -> '.join(steps)} {said}"
        return {
            "image": field(line, "image_filename", str),
            "target": {"points": points},
            "conversations": [
                {"from": "human", "value": question},
                {"from": "gpt", "value": said, "points_seq": groups},
            ],
            "truth": {"texts": [line["answer"]]},
        }

    def _steps(self, line: dict[str, Any]) -> tuple[list[str], list[Found], list[list[float]]]:
        """Each step in words, with the groups of the points in them, and the points."""
        program = field(line, "program", list)
        scene = self._scene(line) if self.version == "q-bs" else None
        found = [None] * len(program) if scene is None else run_program(program, scene)
        steps: list[str] = []
        groups: list[Found] = []
        for place, (step, objects) in enumerate(zip(program, found, strict=True)):
            at = f"program[{place}]"
            function = field(step, "function", str, at)
            values, inputs = _listed(step, "value_inputs", at), _listed(step, "inputs", at)
            words = f"{function}{f':{values[0]}' if values else ''}"
            words += f"[{','.join(map(str, inputs))}]" if inputs else ""
            if objects is not None and _shows(program, place):
                words += POINTS if objects else " (none)"
                groups += [objects] if objects else []
            steps.append(words)
        known = sorted({thing for group in groups for thing in group})
        places = [] if scene is None else [scene.objects[thing]["pixel_coords"][:2] for thing in known]
        return steps, [[known.index(thing) for thing in group] for group in groups], places

    def _scene(self, line: dict[str, Any]) -> Scene:
        assert self.scenes is not None
        index = field(line, "image_index", int)
        if not 0 <= index < len(self.scenes):
            expected, found = f"one of the {len(self.scenes)} scenes of {self.scenes.path}", str(index)
            raise DataError(field="image_index", expected=expected, found=found, kind="missing-record")
        scene = self.scenes[index]
        try:
            if scene.get("image_index") != index:
                raise DataError(expected=f"image_index {index}", found="another scene", kind="missing-record")
            return checked(scene)
        except DataError as error:
            raise error.at(self.scenes.where(index)) from error


def checked(scene: Mapping[str, Any]) -> Scene:
    """A scene of the file.

    Raises:
        DataError: an object without its attributes or its place; relations to what is no object.
    """
    objects = field(scene, "objects", list)
    for place, thing in enumerate(objects):
        at = f"objects[{place}]"
        for attribute in ATTRIBUTES:
            field(thing, attribute, str, at)
        pixels = field(thing, "pixel_coords", list, at)
        if len(pixels) < 2:
            raise DataError(field=f"{at}.pixel_coords", expected="x and y", found=show(pixels), kind="coordinates")
        for axis, value in zip("xy", pixels, strict=False):
            number({axis: value}, axis, f"{at}.pixel_coords")
    relations = field(scene, "relationships", dict)
    for name in relations:
        groups = field(relations, name, list, "relationships")
        if len(groups) != len(objects) or not all(_are_indices(group, len(objects)) for group in groups):
            expected = f"a list of indices of objects for each of {len(objects)}"
            raise DataError(field=f"relationships.{name}", expected=expected, found=show(groups), kind="missing-record")
    return Scene(objects, relations)


def _are_indices(group: object, count: int) -> bool:
    return isinstance(group, list) and all(n in range(count) for n in cast(list[object], group))


def _shows(program: Sequence[Mapping[str, Any]], place: int) -> bool:
    """Whether a step is pointed at: where objects are settled, not after each filter on the way there."""
    name: str = program[place]["function"]
    if name == "scene" or name.startswith("filter_"):
        return place + 1 < len(program) and program[place + 1]["function"] in ("exist", "count")
    return True


def run_program(program: Sequence[Any], scene: Scene) -> list[Found | None]:
    """The objects that each step of a program finds; None for a step that finds none but a value.

    Raises:
        DataError: an unknown function, or inputs that it does not take or that do not come before it.
    """
    found: list[Found | None] = []
    for place, step in enumerate(program):
        at = f"program[{place}]"
        name = field(step, "function", str, at)
        given, values = _listed(step, "inputs", at), _listed(step, "value_inputs", at)
        if not all(isinstance(earlier, int) and 0 <= earlier < place for earlier in given):
            expected = "indices of earlier steps"
            raise DataError(field=f"{at}.inputs", expected=expected, found=show(given), kind="missing-record")
        inputs: list[Found] = [found[earlier] or [] for earlier in given]
        function = FUNCTIONS.get(name)
        if function is not None:
            takes = TAKES.get(name.partition("_")[0], (1, 0))
            if (len(inputs), len(values)) != takes:
                expected = f"{takes[0]} inputs and {takes[1]} value_inputs for {name}"
                found_ones = f"{len(inputs)} and {len(values)}"
                raise DataError(field=at, expected=expected, found=found_ones, kind="wrong-type")
            found.append(function(scene, inputs, values))
        elif name in VALUES or name.startswith(("query_", "equal_")):
            found.append(None)
        else:
            raise DataError(
                nearest(name, FUNCTIONS),
                field=at,
                expected="a function of CLEVR",
                found=show(name),
                kind="missing-record",
            )
    return found


def _related(scene: Scene, things: Found, name: str) -> Found:
    if name not in scene.relations:
        raise DataError(
            nearest(str(name), scene.relations),
            field="relate",
            expected="a relation of the scene",
            found=show(name),
            kind="missing-record",
        )
    return sorted({n for thing in things for n in scene.relations[name][thing]})


def _listed(step: Mapping[str, Any], name: str, at: str) -> list[Any]:
    return field(step, name, list, at) if name in step else []


def _filter(attribute: str) -> Callable[[Scene, list[Found], list[str]], Found]:
    return lambda scene, inputs, values: [n for n in inputs[0] if scene.objects[n][attribute] == values[0]]


def _same(attribute: str) -> Callable[[Scene, list[Found], list[str]], Found]:
    def others(scene: Scene, inputs: list[Found], values: list[str]) -> Found:
        things = scene.objects
        return [
            n
            for n, thing in enumerate(things)
            if n not in inputs[0] and any(thing[attribute] == things[known][attribute] for known in inputs[0])
        ]

    return others


ATTRIBUTES = ("size", "color", "material", "shape")
VALUES = ("count", "exist", "greater_than", "less_than")
FUNCTIONS: dict[str, Callable[[Scene, list[Found], list[str]], Found]] = {
    "scene": lambda scene, inputs, values: list(range(len(scene.objects))),
    "unique": lambda scene, inputs, values: inputs[0],
    "union": lambda scene, inputs, values: sorted({*inputs[0], *inputs[1]}),
    "intersect": lambda scene, inputs, values: sorted({*inputs[0]} & {*inputs[1]}),
    "relate": lambda scene, inputs, values: _related(scene, inputs[0], values[0]),
    **{f"filter_{attribute}": _filter(attribute) for attribute in ATTRIBUTES},
    **{f"same_{attribute}": _same(attribute) for attribute in ATTRIBUTES},
}
"""Function -> the objects it finds."""
TAKES = {"scene": (0, 0), "union": (2, 0), "intersect": (2, 0), "relate": (1, 1), "filter": (1, 1)}
"""First word of a function -> how many steps and how many words it is given; of the others one step."""
