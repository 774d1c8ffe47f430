"""What logs say of rewards and answers, by the names of TRL's `GRPOTrainer`."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from mllm.config.reward_args import RewardArgs
from mllm.models.runtime.advantages import std_without_nan, total_rewards
from mllm.report.rollouts import SampledQuestion, ScoredAnswer
from mllm.types import BOXES, IMAGE, POINTS, Item, Prediction

logger = logging.getLogger(__name__)

FLAT_STEPS = 20
"""Samplings in a row in which no group had a spread, after which it is said."""
EXTREMES = {"low_min": min, "high_max": max, "/min_": min, "/max_": max}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """An answer of some rank, as far as logs and advantages must know it.

    Attributes:
        rewards: in the order of the config; None where one does not apply.
        tokens: its length.
        learned: how many of them are learned from.
        failure: why its regions could not be read, "" where they could.
    """

    rewards: tuple[float | None, ...]
    tokens: int
    learned: int
    ended: bool
    failure: str


def rewards_of(answers: Sequence[Sampled]) -> Tensor:
    """float64 [answers, rewards], nan where a reward does not apply."""
    rows = [[torch.nan if value is None else value for value in answer.rewards] for answer in answers]
    return torch.tensor(rows, dtype=torch.float64)


def reward_values(answers: Sequence[Sampled], names: Sequence[str], weights: Tensor, group: int) -> dict[str, float]:
    """Of the answers of one sampling on all ranks, those of a group side by side."""
    rewards = rewards_of(answers)
    totals = total_rewards(rewards, weights)
    flat = std_without_nan(totals.view(-1, group)) < 1e-8
    found = {
        "reward": totals.nanmean(),
        "reward_std": std_without_nan(totals),
        "frac_reward_zero_std": flat.double().mean(),
    }
    for name, column in zip(names, rewards.T, strict=True):
        found[f"rewards/{name}/mean"] = column.nanmean()
        found[f"rewards/{name}/std"] = std_without_nan(column)
    values = {name: float(value) for name, value in found.items() if not value.isnan()}
    values |= _lengths([answer.tokens for answer in answers], "")
    values |= _lengths([answer.tokens for answer in answers if answer.ended], "terminated_")
    values["completions/clipped_ratio"] = sum(not answer.ended for answer in answers) / len(answers)
    failures = Counter(answer.failure for answer in answers if answer.failure)
    return values | {f"failure/{name}": count / len(answers) for name, count in failures.items()}


class RewardLog:
    """Collects readings until the next log."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)
        self._updates: dict[str, list[Tensor]] = defaultdict(list)
        self._flat = 0
        self._samplings = 0

    def sampled(self, values: Mapping[str, float], *, shown: bool) -> None:
        """Note `reward_values`; `shown`: whether this process may say that nothing is to be learned from them."""
        self._samplings += 1
        for name, value in values.items():
            self._values[name].append(value)
        self._flat = self._flat + 1 if values["frac_reward_zero_std"] == 1 else 0
        if self._flat == FLAT_STEPS and shown:
            logger.warning(
                "in the last %d samplings all answers of each question had the same reward (mean %.3g), so nothing is "
                "learned: see the page of answers for the convention of coordinates and the reward, raise "
                "reward_args.temperature or num_generations, or train with supervision first",
                FLAT_STEPS,
                values.get("reward", torch.nan),
            )

    def updated(self, metrics: Mapping[str, Tensor]) -> None:
        """Note what the loss said of a batch of this rank."""
        for name, value in metrics.items():
            self._updates[name].append(value)

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """What goes into the log, of all ranks, which call it together."""
        own = {name: torch.stack(values).tolist() for name, values in self._updates.items()}
        everyones: list[dict[str, list[float]]] = gather_object([own])
        for ranks in everyones:
            for name, values in ranks.items():
                self._values[name] += values
        samplings = self._samplings
        values, self._values, self._updates, self._samplings = self._values, defaultdict(list), defaultdict(list), 0
        return {name: float(f"{_together(name, found, samplings):.5g}") for name, found in values.items()}


def shown_question(
    item: Item, predictions: Sequence[Prediction], answers: Sequence[Sampled], args: RewardArgs
) -> SampledQuestion:
    """A question with its answers, for a page."""
    number = item.answer_image
    totals = total_rewards(rewards_of(answers), torch.tensor(args.weights, dtype=torch.float64)).tolist()
    scored = [
        ScoredAnswer(
            text=prediction.text,
            reward=None if math.isnan(reward) else reward,
            rewards=dict(zip(args.rewards, answer.rewards, strict=True)),
            ended=answer.ended,
            regions=tuple(each for each in (*prediction.boxes, *prediction.points) if each.image == number),
        )
        for prediction, answer, reward in zip(predictions, answers, totals, strict=False)
    ]
    return SampledQuestion(
        key=item.key,
        text=item.prompt[-1].text.replace(IMAGE, "").strip(),
        answers=tuple(scored),
        image=item.images[number] if item.images else None,
        true=tuple(each for each in (*item.truth.boxes, *item.truth.points) if each.image == number),
        texts=tuple(text for text in item.truth.texts if not any(mark in text for mark in (BOXES, POINTS))),
    )


def _together(name: str, values: Sequence[float], samplings: int) -> float:
    for part, extreme in EXTREMES.items():
        if part in name:
            return extreme(values)
    count = samplings if name.startswith("failure/") else len(values)  # a failure is noted where it occurs
    return sum(values) / max(count, 1)


def _lengths(tokens: Sequence[int], kind: str) -> dict[str, float]:
    if not tokens:
        return {}
    values = {"mean": sum(tokens) / len(tokens), "min": min(tokens), "max": max(tokens)}
    return {f"completions/{name}_{kind}length": float(value) for name, value in values.items()}
