"""transformers' training loop, made to end well: diverged, interrupted, or with the disk full.

It stops before an update that is not finite, on every rank at the same step; a signal lets it finish the step and write
a checkpoint; what it writes is whole, and what it goes on from is what was written.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, Seq2SeqTrainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from mllm.boundary import Ended
from mllm.compat.names import replaces
from mllm.compat.torch import only_data, set_last_rates
from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError, MllmError, ModelError, RunError, one_line
from mllm.interrupts import Interrupted
from mllm.models.checkpoints.finite import non_finite
from mllm.pipeline.best_model import check_delay
from mllm.pipeline.mirror import Mirror
from mllm.pipeline.optimization import check_schedule_learns
from mllm.pipeline.output_folder import new_checkpoint
from mllm.pipeline.ranks import fail, largest, on_main
from mllm.pipeline.resume import newest_whole, resume_command
from mllm.pipeline.step_guard import StepGuard
from mllm.pipeline.train_data import TrainDataset

UNFIT = (
    *(RuntimeError, ValueError, LookupError, TypeError, EOFError, OSError, UnpicklingError, SafetensorError),
    CheckpointException,  # of shards; no Exception
)
"""What libraries raise over a checkpoint of another model, launch or optimizer."""
GROUP_SETTINGS = ("initial_lr", "weight_decay", "betas", "eps", "momentum")
"""Of a group of an optimizer, what a config says of it."""


class GuardedTrainer(Seq2SeqTrainer):
    """`described` says of which run a checkpoint is, see `resume.describe`."""

    def __init__(self, *, args: RunArguments, described: Mapping[str, Any], **rest: Any) -> None:
        super().__init__(args=args, **rest)
        self.described = described
        self.run_arguments = args
        self.mirror = Mirror.of(args)
        if args.max_nonfinite_steps and self.is_deepspeed_enabled:
            raise ConfigError(
                "DeepSpeed updates before the gradient can be checked",
                field="training_args.max_nonfinite_steps",
                expected="0 under DeepSpeed",
                found=str(args.max_nonfinite_steps),
            )
        self.began_at = 0
        """The step that this process began behind."""
        self.guard = StepGuard(allowed=args.max_nonfinite_steps, keys=self._keys)
        self.add_callback(_Guard(self))

    @replaces(Seq2SeqTrainer)
    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # rank 0 writes trainer_state.json next, which marks the checkpoint complete: no rank may lag behind
        self.accelerator.wait_for_everyone()

    @replaces(Seq2SeqTrainer)
    def _save_checkpoint(self, model: Any, trial: object) -> None:
        """As transformers', but never of weights that are not finite, with a manifest at the end, and mirrored."""
        self.require_finite_weights()
        folder = Path(self.args.output_dir or ".") / f"checkpoint-{self.state.global_step}"
        with new_checkpoint(folder, self.run_arguments, self.described, lambda: self.state.best_model_checkpoint):
            super()._save_checkpoint(model, trial)
        if (mirror := self.mirror) is not None:
            limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
            on_main(lambda: mirror.add_checkpoint(folder, limit, best))

    def require_finite_weights(self) -> None:
        """Raises:
        RunError: on every rank, where a trained weight of any is nan or infinite.
        """
        model: Any = self.model
        trained = [(name, getattr(p, "ds_tensor", p)) for name, p in model.named_parameters() if p.requires_grad]
        bad = non_finite(trained)
        if largest([len(bad)])[0]:
            names = ", ".join(dict.fromkeys(gather_object(bad[:3])))
            what = f"training diverged: at step {self.state.global_step} these weights are nan or infinite: {names}"
            fail(RunError(f"{what}; {self._kept()}", kind="diverged"))

    def _kept(self) -> str:
        checkpoint = newest_whole(Path(self.args.output_dir or "."))
        if checkpoint is None:
            return "no checkpoint was written before"
        return f"{checkpoint} is kept: resume from it, perhaps with a lower --learning_rate: {resume_command()}"

    def _keys(self, indices: Sequence[int]) -> list[str]:
        assert isinstance(self.train_dataset, TrainDataset)
        self.train_dataset.items.set_epoch(self.train_dataset.epoch)
        return [self.train_dataset.items[index].key for index in dict.fromkeys(indices)]

    @replaces(Seq2SeqTrainer)
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with _reading(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    @replaces(Seq2SeqTrainer)
    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A weight that the checkpoint lacks would keep its value from before the run."""
        model: Any = self.model
        parameters = dict(model.named_parameters(remove_duplicate=False))
        loaded = {id(parameter) for name, parameter in parameters.items() if name not in load_result.missing_keys}
        missing = [
            name for name in load_result.missing_keys if id(parameters.get(name)) not in loaded
        ]  # others are tied
        wrong = [f"missing {name}" for name in missing] + [f"unexpected {name}" for name in load_result.unexpected_keys]
        if wrong:
            raise ModelError(
                expected="a checkpoint of this model", found=f"{len(wrong)} differences: {', '.join(wrong[:5])}"
            )

    @replaces(Seq2SeqTrainer)
    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As transformers', but learning rates, their schedule and weight decay are those that this run asks for."""
        if checkpoint is None:
            return
        optimizer: Any = self.optimizer
        wanted = _settings(optimizer)
        needed = {name for group in optimizer.param_groups for name in group}
        with _reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
            _check_state(optimizer, needed)
        scheduler: Any = self.lr_scheduler
        if not isinstance(scheduler, LambdaLR):
            return
        for number, (group, settings) in enumerate(zip(optimizer.param_groups, wanted, strict=True)):
            group.update(settings)
            scheduler.base_lrs[number] = group["initial_lr"]
            group["lr"] = group["initial_lr"] * scheduler.lr_lambdas[number](scheduler.last_epoch)
        set_last_rates(scheduler, [group["lr"] for group in optimizer.param_groups])  # what is logged

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        check_schedule_learns(self.run_arguments, scheduler, num_training_steps)
        return scheduler

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        indices = inputs["index"]
        return self.guard.saw(super().training_step(model, inputs, *args, **kwargs), indices)

    @replaces(Seq2SeqTrainer)
    def _get_grad_norm(self, model: PreTrainedModel, grad_norm: object = None) -> Any:
        """The norm, after a look at it: this is called once in each step, right before the update."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        scale = self._loss_scale()
        applied = self.guard.check(self.state.global_step + 1, norm, scale, kept=self._kept)
        if not applied and scale is None:
            model.zero_grad(set_to_none=True)  # the optimizer passes over what has no gradient
        return norm

    def _loss_scale(self) -> float | None:
        """The scale of a gradient scaler (float16) that lowers it after an overflow; None without one."""
        if self.is_deepspeed_enabled:
            engine: Any = self.deepspeed
            return engine.optimizer.cur_scale if engine.fp16_enabled() and engine.dynamic_loss_scale() else None
        scaler = getattr(self.accelerator, "scaler", None)
        return scaler.get_scale() if scaler is not None and scaler.is_enabled() else None

    @contextmanager
    def checkpoint_if_interrupted(self) -> Generator[None, None, None]:
        """Around an evaluation during training: a signal ends it, and the training so far is kept."""
        try:
            yield
        except (Interrupted, Ended) as error:
            signum = error.signum if isinstance(error, Interrupted) else error.status - 128
            if signum < 0 or not self.state.global_step:
                raise
            if self.state.global_step > self.began_at:  # else the checkpoint is there, with its random state
                self._save_checkpoint(self.model, None)
            self.end_interrupted(signum)

    def end_interrupted(self, signum: int) -> NoReturn:
        """Raises:
        Interrupted: after the checkpoint of this step, which it names.
        """
        kept = f"checkpoint-{self.state.global_step} is written; continue with: {resume_command()}"
        fail(Interrupted(signum, kept))

    @replaces(Seq2SeqTrainer)
    def _run_epoch(self, *args: object, **kwargs: object) -> None:
        """As transformers', which would make one more step where a run goes on after its last one, or an early end."""
        if self.state.global_step < self.state.max_steps and not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)
        else:
            self.control.should_training_stop = True


def _settings(optimizer: Any) -> list[dict[str, object]]:
    return [{name: group[name] for name in GROUP_SETTINGS if name in group} for group in optimizer.param_groups]


def _check_state(optimizer: Any, needed: set[str]) -> None:
    """Check what was read of a checkpoint's optimizer; `needed`: settings that this one has of each group.

    Raises:
        ModelError: it was another kind of optimizer, or what it keeps of a parameter is nan or infinite, which would
            never be updated again.
    """
    lacking = sorted(name for group in optimizer.param_groups for name in needed - group.keys())
    if lacking:
        raise ModelError(f"its optimizer is of another kind, without {lacking[0]}: use the earlier training_args.optim")
    kept = (entry for state in optimizer.state.values() for entry in state.items())
    bad = non_finite((name, one) for name, one in kept if isinstance(one, torch.Tensor))
    if bad:
        raise ModelError(field="its optimizer", expected="finite numbers", found=f"nan or infinity in {bad[0]}")


@contextmanager
def _reading(checkpoint: str) -> Generator[None, None, None]:
    """Around what reads a checkpoint, none of whose code is run.

    Raises:
        ModelError: for what libraries say of a checkpoint of another model, launch or optimizer.
    """
    try:
        with only_data(Path(checkpoint)):
            yield
    except UNFIT as error:
        said = one_line(error, 300)
        raise ModelError(f"does not fit this run: {said}", where=f"resume_from_checkpoint {checkpoint}") from error
    except MllmError as error:
        raise error.at(f"resume_from_checkpoint {checkpoint}") from error


class _Guard(TrainerCallback):
    """Begins with weights that are finite, and stops after the step in which a signal came."""

    def __init__(self, trainer: GuardedTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        check_delay(args, state)
        self.trainer.began_at = state.global_step
        self.trainer.guard.begin()
        self.trainer.require_finite_weights()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.trainer.guard.signum:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False
