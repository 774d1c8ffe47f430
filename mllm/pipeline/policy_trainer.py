"""Training by rewards: answers are sampled, scored and compared in their groups; then the policy is updated.

The loop, its checkpoints, guards, logs and evaluations are those of `Trainer`: only where its batches come from, and
what their loss is, is another.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import Sampler

from mllm.compat.names import replaces
from mllm.compat.transformers_trainer import on_device
from mllm.config.reward_args import RewardArgs
from mllm.errors import ConfigError
from mllm.metrics.failures import failure_of
from mllm.models.runtime.advantages import advantages
from mllm.models.runtime.loss import Scoring
from mllm.models.runtime.policy_loss import AnswerBatch, entropy_threshold, policy_loss
from mllm.models.vision.kept_features import KEYS, knowing
from mllm.pipeline.experience import Entries, Experience, answers_on, keep, kept_answers
from mllm.pipeline.monitor import CountingCollator
from mllm.pipeline.prompts import (
    Prompt,
    PromptDataset,
    RepeatedBlocks,
    as_they_are,
    completed,
    firsts,
    next_block,
    order_of,
)
from mllm.pipeline.reference import Reference
from mllm.pipeline.reward_check import format_values, reference_rewards
from mllm.pipeline.reward_log import RewardLog, Sampled, reward_values, rewards_of, shown_question
from mllm.pipeline.rollouts import RolloutSampling, SampledCompletion, sample_answers
from mllm.pipeline.trainer import Trainer
from mllm.report.rollouts import write_rollouts
from mllm.rewards.base import Rewards, score_answer
from mllm.rewards.box_iou import BoxIoU
from mllm.rewards.box_set_f1 import BoxSetF1
from mllm.rewards.point_inside import PointInside
from mllm.types import Prediction

logger = logging.getLogger(__name__)

QUESTIONS_SHOWN = 12
"""Questions of a page."""
ABOUT_REGIONS, LEAST_OF_TRUTH = (BoxIoU, BoxSetF1, PointInside), 0.5
"""Rewards that should give the true answers nearly 1, and below which something is wrong."""


class PolicyTrainer(Trainer):
    """Trains on a `PromptDataset` by the rewards of sampled answers."""

    def __init__(self, *, reward_args: RewardArgs, rewards: Rewards, **rest: Any) -> None:
        super().__init__(**rest)
        if self.is_deepspeed_enabled:
            raise ConfigError(
                "launch with DDP or FSDP2", field="reward_args", expected="no section under DeepSpeed", found="one"
            )
        self.reward_args = reward_args
        self.rewards = rewards
        self.losses = None  # a loss of rewards says nothing about a dataset
        self.loss_is_scaled_for_ga = True  # the loss is divided for the whole step
        self.reward_log = RewardLog()
        self.reference: Reference | None = None
        self.rows = CountingCollator(self.collator)
        self.data_collator: Any = as_they_are
        self.sampling = RolloutSampling(
            num_generations=reward_args.num_generations,
            temperature=reward_args.temperature,
            top_p=reward_args.top_p,
            top_k=reward_args.top_k,
            max_completion_length=reward_args.max_completion_length,
        )
        self._scoring = Scoring(temperature=reward_args.temperature, entropy_gradient=reward_args.entropy_coef > 0)
        self._queue: deque[Experience] = deque()
        self._resumed: Path | None = None
        self._next_page = 0

    def announced(self) -> dict[str, str]:
        args = self.reward_args
        weights = ", ".join(f"{name} x {weight:g}" for name, weight in zip(args.rewards, args.weights, strict=True))
        lines = {"rewards": f"{weights}; {args.num_generations} answers of each question"}
        assert isinstance(self.train_dataset, PromptDataset)
        found = reference_rewards(self.train_dataset, self.rewards)
        for name, value in found.get("true answers", {}).items():
            if value is None:
                logger.warning("reward %r applies to none of the items that were looked at", name)
            elif isinstance(self.rewards[name], ABOUT_REGIONS) and value < LEAST_OF_TRUTH:
                logger.warning(
                    "reward %r gives the true answers %.3f: are regions written and read in the same coordinates?",
                    name,
                    value,
                )
        return lines | {which: format_values(values) for which, values in found.items()}

    @property
    def steps_per_generation(self) -> int:
        """Batches of a rank whose answers are sampled together."""
        return self.reward_args.steps_per_generation or self.args.gradient_accumulation_steps

    @property
    def plans(self) -> bool:
        return True

    def planned(self) -> Sampler[list[int]]:
        return RepeatedBlocks(super().planned(), steps=self.steps_per_generation, times=self.reward_args.num_iterations)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The next batches of answers to be learned from; new answers are sampled where none are left."""
        batches = self.meters.waiting(epoch_iterator)
        if self._resumed is not None:
            assert isinstance(self.train_dataset, PromptDataset)
            ranks, rank = self.args.world_size, self.args.process_index
            group = self.reward_args.num_generations
            for one in kept_answers(self._resumed, self.train_dataset.prompts, rank=rank, ranks=ranks, group=group):
                self._queue.append(one)  # in place of the batch that it was sampled for
                next(batches, None)
            self._resumed = None
        if self.reward_args.beta and self.reference is None:
            self.reference = Reference(self.model)
        found: list[dict[str, Any]] = []
        while len(found) < num_batches:
            if not self._queue:
                block = next_block(batches, self.steps_per_generation)
                if not block:
                    break
                self._queue.extend(self._sampled(block) * self.reward_args.num_iterations)
            experience = self._queue.popleft()
            found.append({**self._rows_of(experience), "experience": experience})
        return found, None

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        rest = dict(inputs)
        experience: Experience = rest.pop("experience")
        with self.meters.counting(rest.pop("counts")):
            log_probs, entropies = self._scores(model, rest)
        loss, metrics = policy_loss(
            log_probs,
            entropies,
            answers_on(experience.answers, log_probs.device),
            self.reward_args,
            accumulated=self.current_gradient_accumulation_steps,
            tokens=experience.tokens * self.current_gradient_accumulation_steps,
            count=experience.count,
            entropy_threshold=self._threshold(entropies),
        )
        self.reward_log.updated(metrics)
        return (loss, {"log_probs": log_probs}) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:  # of training
            logs = {**logs, **self.reward_log.read(self.accelerator)}
        super().log(logs, *args, **kwargs)

    def _scores(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies, the tokens of an answer side by side, the answers in their order."""
        given = {name: value for name, value in batch.items() if name not in ("index", "order", "counts")}
        with knowing(self.model, given.pop(KEYS, None)):
            found = model(**given, scoring=self._scoring)
        return found.log_probs[batch["order"]], found.entropies[batch["order"]]

    def _threshold(self, entropies: Tensor) -> float | None:
        """The same on all ranks."""
        if self.reward_args.top_entropy_quantile == 1:
            return None
        everyones: list[float] = gather_object(entropies.detach().tolist())
        return entropy_threshold(torch.tensor(everyones), self.reward_args.top_entropy_quantile)

    def _rows_of(self, experience: Experience) -> dict[str, object]:
        """The batch of a model for all answers that are learned from, equal ones of a prompt once; of none, the first
        answer without labels. `order`: where among its labels the tokens of the answers are, see `order_of`."""
        group = self.reward_args.num_generations
        learned = experience.answers.lengths > 0
        first_R = firsts(experience.completions)
        prompts = iter(enumerate(experience.completions))
        entries = [
            [
                completed(prompt, completions[answer - number * group], answer, learned=True)
                for prompt in entry
                for number, completions in [next(prompts)]
                for answer in range(number * group, (number + 1) * group)
                if learned[answer] and first_R[answer] == answer
            ]
            for entry in experience.entries
        ]
        entries = [entry for entry in entries if entry]
        if not entries:
            entries = [[completed(experience.entries[0][0], experience.completions[0][0], 0, learned=False)]]
        batch = self.rows(entries)
        copies = torch.bincount(first_R[learned], minlength=len(first_R)).clamp(min=1).tolist()
        examples = [(copies[example.source], len(example.input_ids)) for entry in entries for example in entry]
        batch["counts"] = replace(
            batch["counts"],
            samples=sum(times for times, _ in examples),
            separate=sum(times * tokens for times, tokens in examples),
        )
        batch["order"] = order_of(batch.pop("label_sources"), first_R[learned])
        return batch

    def _sampled(self, block: Sequence[Entries]) -> list[Experience]:
        """Answers to the prompts of a block, scored and compared with those of all ranks."""
        args, dataset = self.reward_args, self.train_dataset
        assert isinstance(dataset, PromptDataset), "answers are sampled for prompts"
        prompts = [prompt for entries in block for entry in entries for prompt in entry]
        self._skipped += [reason for prompt in prompts for reason in prompt.sample.skipped]
        answered = sample_answers(
            self._ready_for_evaluation(),
            self.processor,
            [[prompt.sample for prompt in entry] for entries in block for entry in entries],
            self.accelerator,
            sampling=self.sampling,
            seed=self.args.seed,
            epoch=dataset.epoch,
            share=args.share_prefix,
        )
        predictions: list[list[Prediction]] = []
        own: list[Sampled] = []
        for prompt, completions in zip(prompts, answered, strict=True):
            read = {each: self._read(prompt, each) for each in dict.fromkeys(completions)}
            predictions.append([read[each][0] for each in completions])
            own += [read[each][1] for each in completions]
        everyones: list[list[Sampled]] = gather_object([own])
        every = [one for rank in everyones for one in rank]
        weights = torch.tensor(args.weights, dtype=torch.float64)
        compared = advantages(
            rewards_of(every),
            weights,
            group=args.num_generations,
            scale=args.scale_rewards,
            aggregation=args.multi_objective_aggregation,
        )
        first = sum(map(len, everyones[: self.accelerator.process_index]))
        values = reward_values(every, list(args.rewards), weights, args.num_generations)
        self.reward_log.sampled(values, shown=self.is_world_process_zero())
        if self.is_world_process_zero():
            self._write_page(prompts, predictions, own, values.get("reward", torch.nan))
        batches = self.accelerator.num_processes * len(block)
        totals = {"tokens": max(sum(one.learned for one in every), 1) / batches, "count": len(every) / batches}
        return self._experiences(block, answered, own, compared[first : first + len(own)], totals)

    def _read(self, prompt: Prompt, completion: SampledCompletion) -> tuple[Prediction, Sampled]:
        prediction = self.processor.decode(completion.ids, prompt.item, prompt.sample.index)
        tokens = len(completion.ids)
        learned = tokens if completion.ended or not self.reward_args.mask_truncated_completions else 0
        return prediction, Sampled(
            rewards=tuple(score_answer(self.rewards, prediction).values()),
            tokens=tokens,
            learned=learned,
            ended=completion.ended,
            failure=failure_of(prediction) or "",
        )

    def _write_page(
        self,
        prompts: Sequence[Prompt],
        predictions: Sequence[Sequence[Prediction]],
        own: Sequence[Sampled],
        reward: float,
    ) -> None:
        """A page of the first questions of this sampling, every so many steps; `reward`: its mean, over all ranks."""
        step, every = self.state.global_step, self.reward_args.log_completions_steps
        if not every or step < self._next_page:
            return
        self._next_page = step - step % every + every
        path = self.folder / "rollouts" / f"step-{step + 1:06}.html"
        shown = [
            shown_question(prompt.item, found, own[number * len(found) :], self.reward_args)
            for number, (prompt, found) in enumerate(zip(prompts[:QUESTIONS_SHOWN], predictions, strict=False))
        ]
        subtitle = f"{self.about}; mean reward of this sampling: {reward:.4g}"
        write_rollouts(path, shown, title=f"Answers before step {step + 1}", subtitle=subtitle)

    def _experiences(
        self,
        block: Sequence[Entries],
        answered: Sequence[list[SampledCompletion]],
        own: Sequence[Sampled],
        compared: Tensor,
        totals: Mapping[str, float],
    ) -> list[Experience]:
        found: list[Experience] = []
        start = 0
        group = self.reward_args.num_generations
        for entries in block:
            stop = start + sum(map(len, entries))
            some = slice(start * group, stop * group)
            lengths = torch.tensor([one.learned for one in own[some]])
            experience = Experience(
                entries=entries,
                completions=list(answered[start:stop]),
                answers=AnswerBatch(lengths=lengths, advantages=compared[some]),
                **totals,
            )
            found.append(replace(experience, answers=self._with_log_probs(experience)))
            start = stop
        return found

    def _with_log_probs(self, experience: Experience) -> AnswerBatch:
        """The answers with what the policy that gave them, and the reference, say of their tokens, where it counts."""
        args, answers = self.reward_args, experience.answers
        # as TRL: where each answer is used in the step that begins with its sampling, the policy is still the same
        reused = self.args.gradient_accumulation_steps % (self.steps_per_generation * args.num_iterations) != 0
        if not reused and not self.reference:
            return answers
        batch = on_device(self, self._rows_of(experience))
        old = self._without_gradient(batch, None) if reused else None
        reference = self._without_gradient(batch, self.reference) if self.reference else None
        return replace(answers, old=old, reference=reference)

    def _without_gradient(self, batch: Mapping[str, object], reference: Reference | None) -> Tensor:
        """float32 [N] on the CPU: log-probabilities under the policy, or under the reference."""
        model: Any = self.model_wrapped
        self.model.eval()
        within = reference.in_place(self.model) if reference else nullcontext()
        with within, torch.no_grad(), self.accelerator.autocast():
            return self._scores(model, batch)[0].cpu()

    @replaces(Trainer)
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.reward_args.beta:
            self.reference = Reference(self.model)  # the policy as training began is that of the config
        if not self.args.ignore_data_skip:
            self._resumed = Path(resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    @replaces(Trainer)
    def _save_rng_state(self, output_dir: str) -> None:
        """Also the answers that are left: no policy would give them again."""
        if self._queue:
            keep(self._queue, Path(output_dir), self.args.process_index)  # the main process may not be here yet
        super()._save_rng_state(output_dir)
