"""Rewards -> advantages: how much better an answer is than the others of its group.

Shape suffixes: R answers, those of a group side by side; K rewards; P groups; G answers of a group.
Source: Shao et al. 2024 (GRPO, arXiv 2402.03300), with the variants of TRL 1.16's `GRPOTrainer`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-4
"""Added to standard deviations."""
ScaleRewards = Literal["group", "batch", "none"]
Aggregation = Literal["sum_then_normalize", "normalize_then_sum"]


def total_rewards(rewards_RK: Tensor, weights_K: Tensor) -> Tensor:
    """float64 [R], the weighted sums; nan in `rewards_RK` does not apply, and the sum of nothing else is nan."""
    total_R = (rewards_RK.double() * weights_K.double()).nansum(dim=1)
    return total_R.masked_fill(rewards_RK.isnan().all(dim=1), torch.nan)


def advantages(
    rewards_RK: Tensor,
    weights_K: Tensor,
    *,
    group: int,
    scale: ScaleRewards = "group",
    aggregation: Aggregation = "sum_then_normalize",
) -> Tensor:
    """float32 [R]: rewards less the mean of their group, divided by a standard deviation (of a sample, not of a whole).

    Args:
        rewards_RK: nan where a reward does not apply. An answer to which none does has the advantage 0, and counts in
            no mean.
        weights_K: of the rewards.
        group: answers of a group.
        scale: whose standard deviation; "none": 1.
        aggregation: "normalize_then_sum" brings each reward to its group's mean and deviation first, whatever `scale`
            says, and the weighted sum to those of the batch.
    """
    if aggregation == "normalize_then_sum":
        each_KPG = rewards_RK.double().T.reshape(rewards_RK.shape[1], -1, group)
        normal_KPG = _less_mean(each_KPG) / (_std(each_KPG) + EPSILON)
        total_R = total_rewards(normal_KPG.flatten(1).T, weights_K)
        found_R = (total_R - total_R.nanmean()) / (_std(total_R) + EPSILON)
        return found_R.nan_to_num(0.0).float()
    total_PG = total_rewards(rewards_RK, weights_K).view(-1, group)
    found_PG = _less_mean(total_PG)
    if scale == "group":
        found_PG = found_PG / (_std(total_PG) + EPSILON)
    elif scale == "batch":
        found_PG = found_PG / (_std(total_PG.flatten()) + EPSILON)
    return found_PG.flatten().nan_to_num(0.0).float()


def std_without_nan(values: Tensor) -> Tensor:
    """Standard deviations along the last axis, nan left out; 0 for fewer than two values."""
    return _std(values)[..., 0]


def _less_mean(values: Tensor) -> Tensor:
    return values - values.nanmean(dim=-1, keepdim=True)


def _std(values: Tensor) -> Tensor:
    """Along the last axis, kept with length 1; n - 1 in the denominator."""
    there = ~values.isnan()
    count = there.sum(dim=-1, keepdim=True)
    squares = _less_mean(values).masked_fill(~there, 0.0).square().sum(dim=-1, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()
