"""How the tokens of an answer are chosen: each request has its own settings, whatever is decoded beside it.

Shape suffixes: R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mllm.errors import ConfigError, ModelError
from mllm.fields import show
from mllm.models.runtime.decoded_rows import draw_tokens

MOST_LOGPROBS = 20
"""Alternatives that a request may ask for, as many as OpenAI's API gives."""
NOT_FINITE = "the scores of the next token are nan or infinite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One request's settings.

    Args:
        max_new_tokens: after so many tokens the answer is cut.
        temperature: what scores are divided by before a token is drawn; 0: the likeliest token is taken.
        top_p: draw among the likeliest tokens that make up this probability.
        top_k: draw among so many of the likeliest tokens; 0: among all.
        min_p: draw among tokens that are at least so likely as a part of the likeliest one's probability.
        repetition_penalty: what scores of tokens that occurred are divided by (multiplied where negative), as in
            transformers: of the answer, and of the prompt where the model is given its ids.
        seed: the draws follow from it alone.
        stop: texts that end the answer where it first spells one.
        logprobs: how many of the likeliest tokens are given beside each token, with log-probabilities before all of
            the settings above; None: no log-probabilities.

    Raises:
        ConfigError: names the field.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        _check("max_new_tokens", "a whole number from 1 on", self.max_new_tokens, int, 1)
        if self.temperature != 0:
            _check("temperature", "0, or a number from 0.001 to 100", self.temperature, float, 0.001, 100)
        _check("top_p", "a number above 0, at most 1", self.top_p, float, 1e-9, 1)
        _check("top_k", "a whole number from 0 on", self.top_k, int, 0)
        _check("min_p", "a number from 0 to 1", self.min_p, float, 0, 1)
        _check("repetition_penalty", "a number from 0.01 to 100", self.repetition_penalty, float, 0.01, 100)
        _check("seed", "a whole number", self.seed, int, -math.inf)
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) and text for text in self.stop):
            raise ConfigError(field="stop", expected="texts that are not empty", found=show(self.stop))
        if self.logprobs is not None:
            expected = f"a whole number from 0 to {MOST_LOGPROBS}"
            _check("logprobs", expected, self.logprobs, int, 0, MOST_LOGPROBS)

    @property
    def filters(self) -> tuple[float, int, float, float]:
        """What is left of the scores to draw from."""
        return self.temperature, self.top_k, self.top_p, self.min_p


def _check(field: str, expected: str, value: object, kind: type, least: float, most: float = math.inf) -> None:
    kinds = (int, float) if kind is float else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ConfigError(field=field, expected=expected, found=show(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """One more token of an answer, the one that ends it included."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens with their log-probabilities, the likeliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRow:
    """A request as far as it is answered."""

    sampling: Sampling
    prompt: int
    """Its tokens before the answer."""
    new: Sequence[int]


def choose(
    rows: Mapping[int, SampledRow], ids: Sequence[Tensor], logits_RV: Tensor, scores_RV: Tensor
) -> tuple[list[int], dict[int, NewToken | ModelError]]:
    """A token for each row of a step, whether it is wanted or not; and what those `rows` get, by their numbers.

    Args:
        rows: the rows that are still answered.
        ids: of all rows, int64 [T], as in `Choose`.
        logits_RV: what the model says, float32.
        scores_RV: what its generation config makes of it.
    """
    finite = logits_RV.max(-1).values.isfinite().tolist()
    good = {number: row for number, row in rows.items() if finite[number]}
    scores_RV = _penalised(good, ids, scores_RV)
    picked_R = scores_RV.argmax(-1)
    together: dict[tuple[float, int, float, float], list[int]] = {}
    for number, row in good.items():
        if row.sampling.temperature:
            together.setdefault(row.sampling.filters, []).append(number)
    for settings, numbers in together.items():
        sources = [random.Random(f"answer {good[each].sampling.seed} {len(good[each].new)}") for each in numbers]
        picked_R[numbers] = draw_tokens(_filtered(scores_RV[numbers], *settings), sources)
    picked: list[int] = picked_R.tolist()
    said = _log_probs(good, picked, logits_RV)
    failed: dict[int, NewToken | ModelError] = {number: ModelError(NOT_FINITE) for number in rows.keys() - good.keys()}
    return picked, failed | {number: said.get(number) or NewToken(id=picked[number]) for number in good}


def _penalised(rows: Mapping[int, SampledRow], ids: Sequence[Tensor], scores_RV: Tensor) -> Tensor:
    asking = {number: row for number, row in rows.items() if row.sampling.repetition_penalty != 1}
    if not asking:
        return scores_RV
    scores_RV = scores_RV.clone()
    for number, row in asking.items():
        held = ids[number][max(0, len(ids[number]) - row.prompt - len(row.new)) :]  # without padding
        seen_T = torch.cat([held, held.new_tensor(row.new)])  # one that was begun again holds them as its prompt
        if len(seen_T):
            penalty: Any = RepetitionPenaltyLogitsProcessor(float(row.sampling.repetition_penalty))
            scores_RV[number] = penalty(seen_T[None], scores_RV[number][None])[0]
    return scores_RV


def _filtered(scores_RV: Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    """What is left to draw from; in the order of transformers' `generate`."""
    filters: list[Any] = [TemperatureLogitsWarper(float(temperature))]
    filters += [TopKLogitsWarper(top_k)] if top_k else []
    filters += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    filters += [MinPLogitsWarper(min_p)] if min_p else []
    for each in filters:
        scores_RV = each(None, scores_RV)
    return scores_RV


def _log_probs(rows: Mapping[int, SampledRow], picked: Sequence[int], logits_RV: Tensor) -> dict[int, NewToken]:
    asking = [number for number, row in rows.items() if row.sampling.logprobs is not None]
    if not asking:
        return {}
    log_probs_AV = logits_RV[asking].log_softmax(-1)
    most = max(rows[number].sampling.logprobs or 0 for number in asking)
    values, indices = (each.tolist() for each in log_probs_AV.topk(min(most, log_probs_AV.shape[1])))
    own = log_probs_AV.gather(1, log_probs_AV.new_tensor([picked[number] for number in asking]).long()[:, None])
    found: dict[int, NewToken] = {}
    for place, number in enumerate(asking):
        count = rows[number].sampling.logprobs or 0
        top = tuple(zip(indices[place][:count], values[place][:count], strict=True))
        found[number] = NewToken(id=picked[number], logprob=float(own[place, 0]), top=top)
    return found
