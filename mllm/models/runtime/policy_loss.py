"""The loss of policy optimization, of log-probabilities that a model gave, whatever row or tree they come from.

Shape suffixes: N tokens of answers, R answers. The tokens of an answer stand side by side, the answers in their order.
Source: Shao et al. 2024 (GRPO, arXiv 2402.03300), Liu et al. 2025 (Dr. GRPO, 2503.20783), Yu et al. 2025 (DAPO,
2503.14476), Zheng et al. 2025 (GSPO, 2507.18071); conventions as of TRL 1.16's `GRPOTrainer`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mllm.config.reward_args import RewardArgs


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBatch:
    """What a loss must know of the answers of a batch.

    Attributes:
        lengths: int64 [R], tokens of each that are learned from; 0 where an answer is left out.
        advantages: float32 [R].
        old: float32 [N], log-probabilities under the policy that gave the answers; None: it is the present one.
        reference: float32 [N], under the policy as training began; None without a divergence.
    """

    lengths: Tensor
    advantages: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None


def policy_loss(
    log_probs_N: Tensor,
    entropies_N: Tensor,
    answers: AnswerBatch,
    args: RewardArgs,
    *,
    accumulated: int,
    tokens: float,
    count: float | None = None,
    entropy_threshold: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, divided for the sum over an optimizer step, and what logs say of it, without gradient.

    Of a token with ratio r to the old policy and advantage A: -min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A), and
    `beta` times the divergence exp(d) - d - 1, d = reference - log-probability, weighed by r.
    Summed over tokens, and divided by what `loss_type` says: "grpo" each answer by its length, then by `count`; "bnpo"
    by the tokens of the batch; "dr_grpo" by `count` times `max_completion_length`; "dapo" by `tokens`.

    Args:
        log_probs_N: under the present policy, with gradient.
        entropies_N: of the distributions that they are of, with gradient where `entropy_coef` is not 0.
        answers: what is known of them.
        args: `beta`, `epsilon`, `loss_type` and others.
        accumulated: batches of the optimizer step.
        tokens: of "dapo": the tokens that all ranks learn from, divided by ranks and by batches of a generation in
            relation to those of a step.
        count: of "grpo" and "dr_grpo": the answers of a batch, in the mean over ranks and batches of a generation, so
            that an answer counts the same in a small batch; None: those of this batch.
        entropy_threshold: tokens with less entropy are not learned from; see `entropy_threshold`.
    """
    own = len(answers.lengths)
    answer_N = torch.repeat_interleave(torch.arange(own, device=log_probs_N.device), answers.lengths)
    advantage_N = answers.advantages[answer_N]
    old_N = log_probs_N.detach() if answers.old is None else answers.old
    change_N = log_probs_N - old_N
    if args.importance_sampling_level == "sequence":
        change_N = (_sums(change_N, answer_N, own) / answers.lengths.clamp(min=1))[answer_N]
    ratio_N = change_N.exp()
    low, high = 1 - args.epsilon, 1 + (args.epsilon if args.epsilon_high is None else args.epsilon_high)
    capped_N = ratio_N if args.delta is None else ratio_N.clamp(max=args.delta)
    losses_N = -torch.min(capped_N * advantage_N, ratio_N.clamp(low, high) * advantage_N)
    if entropy_threshold is not None:
        losses_N = losses_N * (entropies_N.detach() >= entropy_threshold)
    metrics = _clipped(capped_N.detach(), advantage_N, (low, high), answers, answer_N, args)
    metrics["entropy"] = _mean(entropies_N.detach())
    if args.beta and answers.reference is not None:
        behind_N = answers.reference - log_probs_N
        divergence_N = behind_N.exp() - behind_N - 1
        if args.use_bias_correction_kl:
            divergence_N = divergence_N * ratio_N
        losses_N = losses_N + args.beta * divergence_N
        metrics["kl"] = _mean(divergence_N.detach())
    loss = _reduced(losses_N, answers, answer_N, args, accumulated, tokens, own if count is None else count)
    if args.entropy_coef:
        loss = loss - args.entropy_coef * _mean(entropies_N) / accumulated
    return loss, metrics


def entropy_threshold(entropies_N: Tensor, quantile: float) -> float | None:
    """The entropy that a share `quantile` of all tokens reaches; None where all are learned from."""
    if quantile == 1 or not len(entropies_N):
        return None
    return float(entropies_N.detach().float().quantile(1 - quantile))


def _reduced(
    losses_N: Tensor,
    answers: AnswerBatch,
    answer_N: Tensor,
    args: RewardArgs,
    accumulated: int,
    tokens: float,
    count: float,
) -> Tensor:
    if args.loss_type == "dapo":
        return losses_N.sum() / tokens
    if args.loss_type == "bnpo":
        return _mean(losses_N) / accumulated
    if args.loss_type == "dr_grpo":
        return losses_N.sum() / (count * args.max_completion_length) / accumulated
    of_answers_R = _sums(losses_N, answer_N, len(answers.lengths)) / answers.lengths.clamp(min=1)
    return of_answers_R.sum() / count / accumulated


def _clipped(
    ratio_N: Tensor,
    advantage_N: Tensor,
    bounds: tuple[float, float],
    answers: AnswerBatch,
    answer_N: Tensor,
    args: RewardArgs,
) -> dict[str, Tensor]:
    """The shares of tokens, or of answers where ratios are theirs, that were clipped; also the extremes of answers."""
    low_N = ((ratio_N < bounds[0]) & (advantage_N < 0)).float()
    high_N = ((ratio_N > bounds[1]) & (advantage_N > 0)).float()
    count, there = len(answers.lengths), answers.lengths > 0
    sides = {name: _sums(side, answer_N, count) for name, side in (("low", low_N), ("high", high_N))}
    shares = {name: side / answers.lengths.clamp(min=1) for name, side in sides.items()}
    if args.importance_sampling_level == "sequence":
        means = {name: share.mean() for name, share in shares.items()}
    else:
        means = {"low": _mean(low_N), "high": _mean(high_N)}
    nothing = ratio_N.new_zeros(())
    return {
        "clip_ratio/low_mean": means["low"],
        "clip_ratio/high_mean": means["high"],
        "clip_ratio/region_mean": means["low"] + means["high"],
        "clip_ratio/low_min": shares["low"][there].min() if bool(there.any()) else nothing,
        "clip_ratio/high_max": shares["high"][there].max() if bool(there.any()) else nothing,
    }


def _sums(values_N: Tensor, answer_N: Tensor, count: int) -> Tensor:
    """[R], of the tokens of each answer."""
    return values_N.new_zeros(count).index_add(0, answer_N, values_N)


def _mean(values_N: Tensor) -> Tensor:
    return values_N.sum() / max(len(values_N), 1)
