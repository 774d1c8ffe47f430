"""A page of sampled answers: all of a question drawn on its image, each in the colour of its reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mllm.images import ImageRef
from mllm.report import page
from mllm.types import Box, Point

SCALE = ("#D55E00", "#E69F00", "#56B4E9", "#0072B2")
"""From the least reward of a question to its greatest: told apart by colour-blind readers."""
FLAT = "#777777"
"""Where all answers of a question score alike, or no reward applies."""

Region = Box | Point


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredAnswer:
    """A sampled answer.

    Attributes:
        reward: the weighted sum; None where no reward applies.
        rewards: each by name.
        ended: False: it was cut off.
        regions: those on the image.
    """

    text: str
    reward: float | None
    rewards: Mapping[str, float | None]
    ended: bool
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledQuestion:
    """A question with its group of answers; `true` are the regions of its truth, `texts` its texts."""

    key: str
    text: str
    answers: tuple[ScoredAnswer, ...]
    image: ImageRef | None = None
    true: tuple[Region, ...] = ()
    texts: tuple[str, ...] = ()


def write_rollouts(path: Path, questions: Sequence[SampledQuestion], *, title: str, subtitle: str) -> None:
    """Write the page; its folder is made.

    Raises:
        DataError: an image cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    cards = [_card(question) for question in questions]
    page.write(path, "report/rollouts.html.j2", title=title, subtitle=subtitle, scale=SCALE, cards=cards)


def colour_of_reward(reward: float | None, least: float, greatest: float) -> str:
    """As `#rrggbb`."""
    if reward is None or greatest - least < 1e-9:
        return FLAT
    share = (reward - least) / (greatest - least)
    return SCALE[min(int(share * len(SCALE)), len(SCALE) - 1)]


def _card(question: SampledQuestion) -> dict[str, object]:
    given = [answer.reward for answer in question.answers if answer.reward is not None]
    least, greatest = min(given, default=0.0), max(given, default=0.0)
    answers = [
        {
            "text": answer.text,
            "reward": "-" if answer.reward is None else f"{answer.reward:.3f}",
            "each": ", ".join(f"{name} {value:.3g}" for name, value in answer.rewards.items() if value is not None),
            "cut": not answer.ended,
            "colour": colour_of_reward(answer.reward, least, greatest),
            "regions": [_shape(region) for region in answer.regions],
        }
        for answer in sorted(question.answers, key=lambda answer: -(answer.reward or 0.0))
    ]
    return {
        "key": question.key,
        "question": question.text,
        "truth": "; ".join(question.texts),
        "true": [_shape(region) for region in question.true],
        "image": None if question.image is None else page.embedded(question.image.open()),
        "answers": answers,
    }


def _shape(region: Region) -> dict[str, float]:
    if isinstance(region, Point):
        return {"cx": region.x, "cy": region.y}
    return {"x": region.x1, "y": region.y1, "width": region.x2 - region.x1, "height": region.y2 - region.y1}
