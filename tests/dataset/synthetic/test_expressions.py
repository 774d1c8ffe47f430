from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.dataset.synthetic.expressions import PLURALS, WORDS, count_phrase, expression, full_name
from mllm.dataset.synthetic.shapes import COLOURS, KINDS, SIZES, SceneImage, Shape, scene

CLEAR = 4.0
SCENES = st.builds(SceneImage, st.integers(0, 9), st.integers(0, 999), st.just(64), st.sampled_from([(1, 3), (2, 8)]))


def fits(shape: Shape, words: Sequence[str]) -> bool:
    """Whether a noun phrase such as "large red circle" fits a shape."""
    return all(word in (shape.size, shape.colour, shape.kind, "shape") for word in words)


def meant(text: str, shapes: Sequence[Shape], clear: float) -> list[Shape]:
    """The shapes that an expression may mean, for one who sees differences of more than `clear` pixels."""
    for relation, axis, sign in (("left of", 0, -1), ("right of", 0, 1), ("above", 1, -1), ("below", 1, 1)):
        if f" {relation} " in text:
            name, landmark = text.split(f" {relation} ")
            (other,) = meant(landmark, shapes, clear)
            return [s for s in meant(name, shapes, clear) if sign * (s.centre[axis] - other.centre[axis]) > clear]
    the, *words = text.split()
    assert the == "the"
    assert set(words) <= {*SIZES, *COLOURS, *KINDS, "shape", *EXTREMES}
    if words[0] in EXTREMES:
        group = [shape for shape in shapes if fits(shape, words[1:])]
        values = [EXTREMES[words[0]](shape) for shape in group]
        return [shape for shape, value in zip(group, values, strict=True) if value >= max(values) - clear]
    return [shape for shape in shapes if fits(shape, words)]


EXTREMES = {
    "leftmost": lambda shape: -shape.centre[0],
    "rightmost": lambda shape: shape.centre[0],
    "topmost": lambda shape: -shape.centre[1],
    "bottommost": lambda shape: shape.centre[1],
    "largest": lambda shape: shape.side,
    "smallest": lambda shape: -shape.side,
}


@given(image=SCENES, seed=st.integers(0, 999))
def test_an_expression_means_one_shape(image: SceneImage, seed: int) -> None:
    rng = random.Random(seed)
    _, shapes = scene(image)
    target = rng.choice(shapes)
    text = expression(shapes, target, rng, clear=CLEAR)
    assert set(text.split()) <= set(" ".join(WORDS).split())
    almost = CLEAR - 0.01
    if " of " in text or " above " in text or " below " in text:
        assert meant(text, shapes, 0) == [target]
    assert meant(text, shapes, almost) == [target]


@given(image=SCENES)
def test_a_full_name_means_one_shape(image: SceneImage) -> None:
    _, shapes = scene(image)
    for shape in shapes:
        assert meant(full_name(shape), shapes, 0) == [shape]


@given(image=SCENES, seed=st.integers(0, 999))
def test_counts_are_right(image: SceneImage, seed: int) -> None:
    _, shapes = scene(image)
    phrase, count = count_phrase(shapes, random.Random(seed))
    singular = {plural: kind for kind, plural in PLURALS.items()}
    words = [singular.get(word, word) for word in phrase.split()]
    assert count == sum(fits(shape, words) for shape in shapes)


def test_all_ways_of_saying_and_all_counts_occur() -> None:
    rng = random.Random(0)
    said: set[str] = set()
    counts: set[int] = set()
    for index in range(1000):
        _, shapes = scene(SceneImage(0, index, 64, (2, 6)))
        said.update(expression(shapes, rng.choice(shapes), rng, clear=CLEAR).split())
        phrase, count = count_phrase(shapes, rng)
        said.update(phrase.split())
        counts.add(count)
    assert said | {"how", "many", *map(str, range(9))} == set(" ".join(WORDS).split())
    assert {0, 1, 2, 3} <= counts


@pytest.mark.parametrize("word", WORDS)
def test_the_vocabulary_holds_each_word_once(word: str) -> None:
    assert WORDS.count(word) == 1
