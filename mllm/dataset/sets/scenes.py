"""Questions about generated images: data without files, in which every answer is known exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from mllm.dataset.base import seeded_rng
from mllm.dataset.questions import EXPR, OBJS, BoxAnswer, Questions, without_image
from mllm.dataset.synthetic.expressions import count_phrase, expression, expression_kind, full_name
from mllm.dataset.synthetic.shapes import MOST_SHAPES, SMALLEST_IMAGE, SceneImage, Shape, scene
from mllm.errors import ConfigError, nearest
from mllm.fields import FULL, PositiveInt, Range, show
from mllm.registry import DATASETS
from mllm.types import BOXES, IMAGE, GroundTruth, Groups, Item, Turn

MOST = 100_000_000
"""Images; an order of more would not fit the memory."""
Task = Literal["rec", "reg", "count"]
ShapeCount = Annotated[int, Range(least=1, most=MOST_SHAPES)]
LARGEST_IMAGE = 4096
"""Pixels along a side: a drawing is made for each item."""

_TERSE = {"rec": f"{IMAGE}\n{EXPR}", "reg": f"{IMAGE}\n{OBJS}", "count": f"{IMAGE}\nhow many {EXPR}"}
_PLACEHOLDERS = {"rec": (IMAGE, EXPR), "reg": (IMAGE, OBJS), "count": (IMAGE, EXPR)}


@DATASETS.register_module()
class Scenes:
    """`count` images of coloured shapes, each with questions in one conversation: `questions_per_scene` of them, but
    no more than it has shapes.

    Tasks: `rec` (which box does an expression mean; answered by `answer`), `reg` (what is in a box; size, colour and
    kind) and `count` (how many red circles; a number). Where several are given, each question draws one.

    An image follows from `seed` and its index: give validation another seed than training. Questions are drawn anew in
    each epoch; in evaluation (epoch None) they stay the same. The turns of a conversation go from
    shape to shape: an answer that was given already would teach to copy, not to look.

    `size` is the side of the images in pixels, `objects` the fewest and the most shapes in one. `questions` is the
    pool of the task, or one for each as `{task: pool}`; None asks tersely, with the expression alone, in the words of
    `expressions.WORDS`.

    Raises:
        ConfigError: an argument out of its range.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Range(least=1, most=MOST)],
        seed: int = 0,
        size: Annotated[int, Range(least=SMALLEST_IMAGE, most=LARGEST_IMAGE)] = 64,
        objects: tuple[ShapeCount, ShapeCount] = (2, 5),
        tasks: Annotated[Sequence[Task], FULL] = ("rec",),
        questions_per_scene: PositiveInt = 1,
        questions: str | Mapping[str, str] | None = None,
        answer: BoxAnswer = BOXES,
    ) -> None:
        if objects[0] > objects[1]:
            raise ConfigError(field="objects", expected="(fewest, most)", found=str(tuple(objects)))
        self.count = count
        self.seed = seed
        self.size = size
        self.objects = (objects[0], objects[1])
        self.tasks: tuple[str, ...] = tuple(tasks)
        self.questions_per_scene = questions_per_scene
        self.pools = _pools(questions, self.tasks)
        self.answer = answer
        self.epoch: int | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.count:
            raise IndexError(f"Scenes: item {index} of {self.count}")
        image = SceneImage(self.seed, index, self.size, self.objects)
        _, shapes = scene(image)
        rng = seeded_rng(self.seed, self.epoch, index)
        asked = rng.sample(range(len(shapes)), min(self.questions_per_scene, len(shapes)))
        exchanges = [self._exchange(rng.choice(self.tasks), shape, shapes, rng) for shape in asked]
        turns: list[Turn] = []
        for each in exchanges:
            pool = self.pools.get(each.task)
            template = _TERSE[each.task] if pool is None else pool.draw(None if self.epoch is None else rng)
            text = (without_image(template) if turns else template).replace(EXPR, each.phrase).replace(OBJS, BOXES)
            turns.append(Turn(role="human", text=text, boxes_seq=each.question_boxes))
            turns.append(Turn(role="gpt", text=each.answer, boxes_seq=each.answer_boxes))
        boxes = tuple(shape.box for shape in shapes)
        last = exchanges[-1]
        truth = GroundTruth(texts=(last.answer,))
        if last.task == "rec":
            ((target,),) = last.answer_boxes
            others = (box for number, box in enumerate(boxes) if number != target)
            # the other shapes are known: an answer may lie on one of them
            truth = replace(truth, boxes=(boxes[target],), candidates=(boxes[target], *others))
        return Item(
            key=f"scenes seed {self.seed}:{index}",
            images=(image,),
            turns=tuple(turns),
            boxes=boxes,
            truth=truth,
            group={"expression": expression_kind(last.phrase)} if last.task == "rec" else {},
        )

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch

    def _exchange(self, task: str, index: int, shapes: Sequence[Shape], rng: random.Random) -> _Exchange:
        if task == "count":
            phrase, count = count_phrase(shapes, rng)
            return _Exchange(task=task, phrase=phrase, answer=str(count))
        if task == "reg":
            return _Exchange(task=task, question_boxes=((index,),), answer=full_name(shapes[index]))
        phrase = expression(shapes, shapes[index], rng, clear=self.size / 16)
        return _Exchange(task=task, phrase=phrase, answer=self.answer, answer_boxes=((index,),))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exchange:
    """A question and its answer; boxes are shapes of the scene by number."""

    task: str
    phrase: str = ""
    question_boxes: Groups = ()
    answer: str
    answer_boxes: Groups = ()


def _pools(questions: str | Mapping[str, str] | None, tasks: Sequence[str]) -> dict[str, Questions]:
    if isinstance(questions, str):
        if len(tasks) != 1:
            expected = f"{{task: pool}} for {len(tasks)} tasks"
            raise ConfigError(field="questions", expected=expected, found=show(questions))
        questions = {tasks[0]: questions}
    for task in questions or {}:
        if task not in tasks:
            raise ConfigError(
                nearest(task, tasks),
                field="questions",
                expected=f"one of the tasks {', '.join(tasks)}",
                found=show(task),
            )
    return {task: Questions(path, _PLACEHOLDERS[task]) for task, path in (questions or {}).items()}
