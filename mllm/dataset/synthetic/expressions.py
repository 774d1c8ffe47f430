"""Words for the shapes of a scene: expressions that fit one shape only, and noun phrases to count.

The vocabulary is closed: WORDS.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mllm.dataset.synthetic.shapes import COLOURS, KINDS, MOST_SHAPES, SIZES, Shape

ATTRIBUTES = ("size", "colour", "kind")
EXTREMES: dict[str, Callable[[Shape], float]] = {
    "leftmost": lambda shape: -shape.centre[0],
    "rightmost": lambda shape: shape.centre[0],
    "topmost": lambda shape: -shape.centre[1],
    "bottommost": lambda shape: shape.centre[1],
    "largest": lambda shape: shape.side,
    "smallest": lambda shape: -shape.side,
}
"""Word -> what is greatest in the shape it means."""

RELATIONS: dict[str, Callable[[Shape, Shape], float]] = {
    "left of": lambda shape, other: other.centre[0] - shape.centre[0],
    "right of": lambda shape, other: shape.centre[0] - other.centre[0],
    "above": lambda shape, other: other.centre[1] - shape.centre[1],
    "below": lambda shape, other: shape.centre[1] - other.centre[1],
}
"""Word -> pixels by which it holds; it does not where the number is negative."""

PLURALS = {kind: "crosses" if kind == "cross" else f"{kind}s" for kind in (*KINDS, "shape")}

WORDS = (
    "the",
    *SIZES,
    *COLOURS,
    *KINDS,
    "shape",
    *PLURALS.values(),
    *EXTREMES,
    "left",
    "right",
    "of",
    "above",
    "below",
    "how",
    "many",
    *map(str, range(MOST_SHAPES + 1)),
)
"""Every word of an expression, of a terse question and of an answer."""


def full_name(shape: Shape) -> str:
    """Size, colour and kind: fits no other shape of its scene."""
    return f"the {_name(shape, ATTRIBUTES)}"


def expression(shapes: Sequence[Shape], target: Shape, rng: random.Random, *, clear: float) -> str:
    """An expression that fits `target` and no other of `shapes`: by its looks, as an extreme, or beside another shape.

    Looks are often said in more words than needed, as people do (Engelhardt et al. 2006).
    `clear` is by how many pixels an extreme or a relation must hold before it is said.
    """
    others = [shape for shape in shapes if shape is not target]
    draw = rng.random()
    said = None
    if draw < 0.25:
        said = _extreme(target, others, rng, clear)
    elif draw < 0.5:
        said = _relation(target, others, rng, clear)
    fewest = rng.randint(1, len(ATTRIBUTES))
    return said or f"the {_name(target, _distinguishing(target, others, rng, fewest=fewest))}"


def expression_kind(expression: str) -> str:
    """By what an expression tells its shape: "relation", "extreme" or "looks"."""
    if any(f" {word} the " in expression for word in RELATIONS):
        return "relation"
    return "looks" if EXTREMES.keys().isdisjoint(expression.split()) else "extreme"


def count_phrase(shapes: Sequence[Shape], rng: random.Random) -> tuple[str, int]:
    """A plural such as "large red circles", and how many of `shapes` it fits, which may be none."""
    model = rng.choice(shapes)
    wanted = {
        "size": model.size if rng.random() < 0.75 else rng.choice(tuple(SIZES)),
        "colour": model.colour if rng.random() < 0.75 else rng.choice(tuple(COLOURS)),
        "kind": model.kind if rng.random() < 0.75 else rng.choice(KINDS),
    }
    said = rng.sample(ATTRIBUTES, rng.randint(0, 2))
    words = [wanted[attribute] for attribute in ("size", "colour") if attribute in said]
    words.append(PLURALS[wanted["kind"] if "kind" in said else "shape"])
    count = sum(all(getattr(shape, attribute) == wanted[attribute] for attribute in said) for shape in shapes)
    return " ".join(words), count


def _name(shape: Shape, attributes: Sequence[str]) -> str:
    words = [shape.size] if "size" in attributes else []
    if "colour" in attributes:
        words.append(shape.colour)
    words.append(shape.kind if "kind" in attributes else "shape")
    return " ".join(words)


def _shares(shape: Shape, target: Shape, attributes: Sequence[str]) -> bool:
    return all(getattr(shape, attribute) == getattr(target, attribute) for attribute in attributes)


def _distinguishing(target: Shape, rivals: Sequence[Shape], rng: random.Random, *, fewest: int) -> Sequence[str]:
    """Attributes of the target, taken in a drawn order until no rival shares them all; all three always do.

    Source: the incremental algorithm of Dale and Reiter 1995, with a drawn order of preference.
    """
    order = rng.sample(ATTRIBUTES, len(ATTRIBUTES))
    for count in range(fewest, len(order)):
        if not any(_shares(rival, target, order[:count]) for rival in rivals):
            return order[:count]
    return order


def _extreme(target: Shape, others: Sequence[Shape], rng: random.Random, clear: float) -> str | None:
    """As in "the largest green shape"; None where the target is in no way the extreme of the drawn group."""
    said = rng.sample(("colour", "kind"), rng.randint(0, 2))
    rivals = [other for other in others if _shares(other, target, said)]
    if not rivals:
        return None
    for word in rng.sample(tuple(EXTREMES), len(EXTREMES)):
        measure = EXTREMES[word]
        if all(measure(target) - measure(rival) >= clear for rival in rivals):
            return f"the {word} {_name(target, said)}"
    return None


def _relation(target: Shape, others: Sequence[Shape], rng: random.Random, clear: float) -> str | None:
    """As in "the circle left of the red square"; None where no relation to the drawn shape is clear."""
    if not others:
        return None
    landmark = rng.choice(others)
    for word in rng.sample(tuple(RELATIONS), len(RELATIONS)):
        holds = RELATIONS[word]
        if holds(target, landmark) >= clear:
            rivals = [other for other in others if other is not landmark and holds(other, landmark) > 0]
            name = _name(target, _distinguishing(target, rivals, rng, fewest=0))
            other_than = [shape for shape in (target, *others) if shape is not landmark]
            return f"the {name} {word} the {_name(landmark, _distinguishing(landmark, other_than, rng, fewest=1))}"
    return None
