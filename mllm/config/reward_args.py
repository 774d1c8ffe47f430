"""Types of the values of `reward_args`: training by rewards. Names and defaults follow TRL's `GRPOConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from mllm.errors import ConfigError
from mllm.fields import FULL, Count, PositiveInt, Range, in_field, read_section, show
from mllm.registry import RewardConfig

Group = Annotated[int, Range(least=2, most=4096)]
Share = Annotated[float, Range(above=0, most=1)]
Times = Annotated[int, Range(least=1, most=4096)]
LARGEST = 1000
"""Of a weight or a bound of a ratio; the loss of larger ones is not finite."""
Weight = Annotated[float, Range(least=0, most=LARGEST)]
SignedWeight = Annotated[float, Range(least=-LARGEST, most=LARGEST)]
Bound = Annotated[float, Range(above=0, most=LARGEST)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardArgs:
    """Group relative policy optimization: several answers of each prompt are sampled, scored and compared.

    Attributes:
        rewards: by the names that logs give them.
        reward_weights: of the rewards, by name; 1 where none is given.
        num_generations: answers of each prompt, which make a group.
        max_completion_length: tokens of an answer at most, its end included.
        temperature: what logits are divided by, in sampling and in all log-probabilities.
        top_p: draw among the likeliest tokens that make up this probability.
        top_k: draw among so many of the likeliest tokens; 0: among all.
        beta: weight of the divergence from the policy as training began.
        epsilon: how far a ratio of probabilities may fall below 1, or rise above it, before it is clipped.
        epsilon_high: how far it may rise, where that is another number.
        delta: the largest ratio, also where the advantage is negative; above the bound that the others set.
        importance_sampling_level: a ratio for each token, or the mean of an answer.
        loss_type: what the sum over tokens is divided by, see `mllm.models.runtime.policy_loss`.
        scale_rewards: divide advantages by the standard deviation of the group, of the batch, or by nothing.
        multi_objective_aggregation: weigh and sum rewards before they are scaled, or after each was.
        num_iterations: how often the answers are used.
        steps_per_generation: batches whose answers are sampled together; None: as many as are accumulated.
        mask_truncated_completions: answers that were cut off count in their group and are not learned from.
        top_entropy_quantile: learn from this share of the tokens, those of greatest entropy.
        entropy_coef: weight of the mean entropy, which is added to the aim.
        use_bias_correction_kl: weigh the divergence by the ratio of probabilities.
        share_prefix: read the images of several questions, and a question of several answers, once in sampling.
        log_completions_steps: so often a page of answers is written; 0: never.
    """

    rewards: Annotated[Mapping[Annotated[str, FULL], RewardConfig], FULL]
    reward_weights: Mapping[str, SignedWeight] = field(default_factory=dict[str, float])
    num_generations: Group = 8
    max_completion_length: PositiveInt = 512
    temperature: Annotated[float, Range(least=0.01, most=100)] = 1.0
    top_p: Share = 1.0
    top_k: Count = 0
    beta: Weight = 0.0
    epsilon: Bound = 0.2
    epsilon_high: Bound | None = None
    delta: Bound | None = None
    importance_sampling_level: Literal["token", "sequence"] = "token"
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize"
    num_iterations: Times = 1
    steps_per_generation: Times | None = None
    mask_truncated_completions: bool = False
    top_entropy_quantile: Share = 1.0
    entropy_coef: Weight = 0.0
    use_bias_correction_kl: bool = True
    share_prefix: bool = True
    log_completions_steps: Count = 50

    def __post_init__(self) -> None:
        for name in self.reward_weights:
            if name not in self.rewards:
                raise ConfigError(
                    field="reward_weights", expected=f"names of rewards: {', '.join(self.rewards)}", found=show(name)
                )
        if not any(self.weights):
            raise ConfigError(field="reward_weights", expected="one that is not 0", found="0 for each reward")
        least = 1 + (self.epsilon if self.epsilon_high is None else self.epsilon_high)
        if self.delta is not None and self.delta <= least:
            raise ConfigError(
                field="delta", expected=f"above {least:g}, the bound of the ratio", found=f"{self.delta:g}"
            )

    @property
    def weights(self) -> list[float]:
        """Of all rewards, in their order."""
        return [float(self.reward_weights.get(name, 1.0)) for name in self.rewards]


def read_reward_args(section: Mapping[str, object]) -> RewardArgs:
    """
    Raises:
        ConfigError: names the key.
    """
    return in_field("reward_args", read_section, section, RewardArgs)
