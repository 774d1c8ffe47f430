"""CLEVR: questions about rendered solids, answered by a program whose steps can be pointed at."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from mllm.dataset.base import LineDataset, field
from mllm.dataset.lines import Lines
from mllm.dataset.questions import ANSWER, QUESTION, Questions, fill, words_of
from mllm.dataset.vqa import answer_text
from mllm.errors import ConfigError, DataError, nearest
from mllm.registry import DATASETS
from mllm.types import IMAGE, POINTS

Version = Literal["q-a", "q-s", "q-bs"]
VERSIONS = ("q-a", "q-s", "q-bs")
Scene = Mapping[str, Any]
Found = list[int]
"""Numbers of objects of a scene."""


@DATASETS.register_module()
class CLEVR(LineDataset):
    """Lines: `{image_filename, image_index, question, answer, program}`, or the public file that holds `questions`.

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
        filename: str,
        questions: str,
        version: Version = "q-a",
        scenes: str | None = None,
        image_folder: str | None = None,
        answer: str = "The answer is <answer>.",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed, entries=("questions",))
        if version not in VERSIONS:
            raise ConfigError(f"CLEVR: version {version!r}; {nearest(str(version), VERSIONS)}")
        if version == "q-bs" and scenes is None:
            raise ConfigError("CLEVR: version 'q-bs' needs scenes, the file with the objects' places")
        self.version = version
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.answer = answer_text(answer, "CLEVR")
        lines = None if scenes is None or scenes.endswith(".jsonl") else ("scenes",)
        self.scenes = None if scenes is None else Lines(scenes, lines)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        question = fill(self.questions.draw(rng), {QUESTION: words_of(line, "question")})
        said = fill(self.answer, {ANSWER: words_of(line, "answer")})
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
        found = [None] * len(program) if scene is None else run(program, scene)
        steps: list[str] = []
        groups: list[Found] = []
        for number, (step, objects) in enumerate(zip(program, found, strict=True)):
            values, inputs = _listed(step, "value_inputs"), _listed(step, "inputs")
            words = f"{field(step, 'function', str)}{f':{values[0]}' if values else ''}"
            words += f"[{','.join(map(str, inputs))}]" if inputs else ""
            if objects is not None and _shows(program, number):
                words += POINTS if objects else " (none)"
                groups += [objects] if objects else []
            steps.append(words)
        known = sorted({thing for group in groups for thing in group})
        places = [] if scene is None else [scene["objects"][thing]["pixel_coords"][:2] for thing in known]
        return steps, [[known.index(thing) for thing in group] for group in groups], places

    def _scene(self, line: dict[str, Any]) -> Scene:
        assert self.scenes is not None
        number = field(line, "image_index", int)
        if not 0 <= number < len(self.scenes):
            raise DataError(f"image_index: {number}, but {self.scenes.path} holds {len(self.scenes)} scenes")
        scene = self.scenes[number]
        if scene.get("image_index") != number:
            raise DataError(f"{self.scenes.where(number)}: expected image_index {number}, found another scene")
        return scene


def _shows(program: Sequence[Mapping[str, Any]], number: int) -> bool:
    """Whether a step is pointed at: where objects are settled, not after each filter on the way there."""
    name: str = program[number]["function"]
    if name == "scene" or name.startswith("filter_"):
        return number + 1 < len(program) and program[number + 1]["function"] in ("exist", "count")
    return True


def run(program: Sequence[Any], scene: Scene) -> list[Found | None]:
    """The objects that each step of a program finds; None for a step that finds none but a value.

    Raises:
        DataError: an unknown function, or inputs that do not come before their step.
    """
    found: list[Found | None] = []
    for number, step in enumerate(program):
        name = field(cast(dict[str, Any], step), "function", str)
        inputs: list[Found] = []
        for given in _listed(step, "inputs"):
            objects = found[given] if isinstance(given, int) and 0 <= given < number else None
            inputs.append(objects or [])
        values = _listed(step, "value_inputs")
        function = FUNCTIONS.get(name)
        if function is not None:
            found.append(function(scene, inputs, values))
        elif name in VALUES or name.startswith(("query_", "equal_")):
            found.append(None)
        else:
            raise DataError(f"program[{number}]: unknown function {name!r}; {nearest(name, FUNCTIONS)}")
    return found


def _listed(step: Mapping[str, Any], name: str) -> list[Any]:
    return field(step, name, list) if name in step else []


def _filter(attribute: str) -> Callable[[Scene, list[Found], list[str]], Found]:
    return lambda scene, inputs, values: [n for n in inputs[0] if scene["objects"][n][attribute] == values[0]]


def _same(attribute: str) -> Callable[[Scene, list[Found], list[str]], Found]:
    def others(scene: Scene, inputs: list[Found], values: list[str]) -> Found:
        things = scene["objects"]
        return [
            n
            for n, thing in enumerate(things)
            if n not in inputs[0] and any(thing[attribute] == things[known][attribute] for known in inputs[0])
        ]

    return others


ATTRIBUTES = ("size", "color", "material", "shape")
VALUES = ("count", "exist", "greater_than", "less_than")
FUNCTIONS: dict[str, Callable[[Scene, list[Found], list[str]], Found]] = {
    "scene": lambda scene, inputs, values: list(range(len(scene["objects"]))),
    "unique": lambda scene, inputs, values: inputs[0],
    "union": lambda scene, inputs, values: sorted({*inputs[0], *inputs[1]}),
    "intersect": lambda scene, inputs, values: sorted({*inputs[0]} & {*inputs[1]}),
    "relate": lambda scene, inputs, values: sorted(
        {n for thing in inputs[0] for n in scene["relationships"][values[0]][thing]}
    ),
    **{f"filter_{attribute}": _filter(attribute) for attribute in ATTRIBUTES},
    **{f"same_{attribute}": _same(attribute) for attribute in ATTRIBUTES},
}
"""Function -> the objects it finds."""
