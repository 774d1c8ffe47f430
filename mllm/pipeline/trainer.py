"""The training loop: transformers' Seq2SeqTrainer, with our order of samples, our evaluation, and exact resumption."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from torch.distributed.fsdp import MixedPrecisionPolicy, register_fsdp_forward_method
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Seq2SeqTrainer, TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.integrations.deepspeed import deepspeed_init, is_deepspeed_zero3_enabled
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.trainer_utils import seed_worker

from mllm.compat.accelerate import forget_last_optimizer, has_prepared_model
from mllm.compat.names import replaces
from mllm.compat.transformers_trainer import batch_size_of, evaluate_after_step
from mllm.config.run_arguments import RunArguments
from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import RunError
from mllm.interrupts import INTERRUPTS
from mllm.metrics.outcome import ImageIds, Outcome, outcome
from mllm.models.adapters.param_groups import ParamGroupOptions, split_param_groups
from mllm.models.base import VisionLanguageModel
from mllm.models.prompt_format import PromptFormat
from mllm.models.runtime.quantization import check_shardable, keep_quantized_apart
from mllm.models.vision.kept_features import KEYS, knowing
from mllm.pipeline.answering import TestSet, answer_test_set, of_test
from mllm.pipeline.best_model import (
    CutEvaluation,
    EarlyStopping,
    StoppingRule,
    check_score,
    choose_score,
    generates,
    random_state_kept,
)
from mllm.pipeline.evaluate import Loader, mean_losses
from mllm.pipeline.monitor import Bar, CountingCollator, Lines, LossLog, ThroughputMonitor
from mllm.pipeline.origins import DatasetLosses
from mllm.pipeline.planning import WINDOW, PlannedBatches, cost_of
from mllm.pipeline.provenance import of_machine, of_model
from mllm.pipeline.ranks import fail
from mllm.pipeline.results import write_results
from mllm.pipeline.saving_trainer import SavingTrainer
from mllm.pipeline.train_data import EvalItems, SeededEpochSampler, TrainDataset, start_worker
from mllm.report.index import REPORT
from mllm.report.summary import summary
from mllm.types import Prediction

logger = logging.getLogger(__name__)


class Trainer(SavingTrainer):
    """Trains on a `TrainDataset`; evaluates `TestSet`s by generation, each item once on however many processes.

    `about` says in a line what is evaluated, for the reports, `described_model` in full, for the results; `kind` and
    `prompt_format` are saved with the model, `described` with checkpoints. Batches of packed rows are planned
    `window` steps at a time, with 0 not at all.
    """

    def __init__(
        self,
        *,
        model: VisionLanguageModel,
        args: RunArguments,
        processor: Processor,
        collator: Collator,
        train_dataset: TrainDataset | None,
        validation: TestSet | None,
        about: str = "",
        described_model: Mapping[str, Any] | None = None,
        early_stopping: StoppingRule | None = None,
        rates: ParamGroupOptions | None = None,
        kind: str,
        prompt_format: PromptFormat,
        described: Mapping[str, Any],
        window: int = WINDOW,
    ) -> None:
        module = cast("torch.nn.Module", model)
        choose_score(args, validation.metric if validation else None, early_stopping)
        super().__init__(
            model=module,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=cast("Any", validation and validation.items),  # that there is one: `evaluate` reads it itself
            data_collator=cast("Any", CountingCollator(collator)),
            processor=processor,
            kind=kind,
            prompt_format=prompt_format,
            described=described,
        )
        self.model_accepts_loss_kwargs = True  # the model divides by the labelled tokens of the whole step
        self.folder = Path(args.output_dir or ".")
        self._resumes = args.resume
        self.about = about
        self.described_model = described_model or {}
        self.rates = rates or ParamGroupOptions()
        self.generates = generates(args)
        self.collator = collator
        self.window = window
        self.plan: Any = None
        self.validation = validation
        self.meters = ThroughputMonitor(module, watch=not args.torch_compile)  # what is compiled takes no hooks
        several = train_dataset is not None and len(train_dataset.origins) > 1
        self.losses = DatasetLosses(train_dataset.origins.names) if train_dataset and several else None
        self._skipped: list[str] = []
        if self.is_fsdp_enabled and args.bf16:
            # accelerate's own policy would round the loss to bf16, and sum gradients over ranks in it
            plugin: Any = self.accelerator.state.fsdp_plugin
            plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if self.is_fsdp_enabled:
            check_shardable(module, torch.bfloat16 if args.bf16 else None)
        keep_quantized_apart(module)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):  # an evaluation alone would write to ./runs
                callback.logging_dir = callback.logging_dir or str(self.folder / "runs")
        for theirs, ours in ((ProgressCallback, Bar()), (PrinterCallback, Lines())):
            if self.pop_callback(theirs):
                self.add_callback(ours)
        self.add_callback(self.meters)
        self.add_callback(_Follow(self))
        self.add_callback(LossLog(self.folder))
        if early_stopping is not None and args.do_train:
            self.add_callback(EarlyStopping(early_stopping.patience, early_stopping.threshold))
        self.add_callback(CutEvaluation(self._make_up_evaluation))  # behind those that it tells its scores

    def announced(self) -> dict[str, str]:
        """What else a run says before it trains."""
        kept = self.model.kept
        if kept is None:
            return {}
        parts = " and ".join(part.replace("_", " ") for part in kept.parts)
        return {"features": f"of {parts}: kept in {kept.cache.folder}, up to {kept.cache.max_bytes / 1e9:g} GB"}

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        inputs = dict(inputs)
        del inputs["index"]
        sources = inputs.pop("label_sources")
        self._skipped += inputs.pop("skipped", [])
        with self.meters.counting(inputs.pop("counts")), knowing(self.model, inputs.pop(KEYS, None)):
            found: Any = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss, outputs = found
        if self.losses:
            self.losses.add(outputs.token_losses, sources)
        return found if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Iterator[object], num_batches: int, device: torch.device) -> Any:
        return super().get_batch_samples(self.meters.waiting(epoch_iterator), num_batches, device)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return round(self.meters.flops.cost * inputs["counts"].work)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:  # of training
            datasets = self.losses.means(self.accelerator) if self.losses else {}
            logs = {**logs, **self.guard.logged(logs["loss"]), **datasets, **self.meters.read(self.accelerator)}
            logs |= self._kept_features()
        skipped = self._everyones_skipped()
        if skipped:
            logs = {**logs, "skipped_images": len(skipped)}
        super().log(logs, *args, **kwargs)

    def _kept_features(self) -> dict[str, float]:
        """The share of images, over all ranks since the last log, whose features were there."""
        if self.model.kept is None:
            return {}
        asked, found = map(sum, zip(*gather_object([self.model.kept.read()]), strict=True))
        return {"kept_features": round(found / asked, 4)} if asked else {}

    def _everyones_skipped(self) -> list[str]:
        """What was skipped on all ranks since the last log, each named in the log."""
        if not isinstance(self.train_dataset, TrainDataset) or self.train_dataset.open.settings.on_error != "skip":
            return []
        skipped: list[str] = gather_object(self._skipped)  # every rank logs at the same steps
        self._skipped = []
        for reason in skipped if self.is_world_process_zero() else ():
            logger.warning("skipped an item and used another instead: %s", reason)
        return skipped

    def evaluate(self, *args: object, metric_key_prefix: str = "eval", **kwargs: object) -> dict[str, float]:
        """Loss and generated scores on the validation set: for `do_eval`, and during training, where the files go to
        `eval-STEP`.

        Raises:
            ConfigError: there is no score `metric_for_best_model`.
        """
        assert self.validation is not None, "evaluation was asked for without a validation set"
        if not self.is_in_train:
            return self.score(self.validation, metric_key_prefix, loss=True)
        folder = self.folder / f"eval-{self.state.global_step}"
        with self.checkpoint_if_interrupted(), random_state_kept(self.args.device):
            scores = self.score(self.validation, metric_key_prefix, loss=True, folder=folder)
        if self.args.metric_for_best_model is not None:
            check_score(self.args, [name.removeprefix("eval_") for name in scores])
        return scores

    def _make_up_evaluation(self) -> None:
        """As transformers' loop evaluates after a step, of whose checkpoint the best model may be."""
        checkpoint = self.folder / f"checkpoint-{self.state.global_step}"
        if evaluate_after_step(self) and checkpoint.is_dir():
            self.state.best_model_checkpoint = str(checkpoint)

    def score(self, test: TestSet, prefix: str, *, loss: bool = False, folder: Path | None = None) -> dict[str, float]:
        """Answer a test set, write predictions, results and report into `folder`, by default beside the outputs; the
        scores, keyed by prefix.
        """
        start = time.time()
        folder = folder or self.folder
        test = replace(test, items=EvalItems(test.items))
        provenance = self._provenance(test) if self.is_world_process_zero() else {}
        with INTERRUPTS.held("finishing this batch; the answers so far are kept"):
            found, predictions = self._evaluated(test, prefix, folder, provenance, loss=loss)
        scores = dict(found.scores)
        if self.is_world_process_zero():
            folder.mkdir(parents=True, exist_ok=True)
            write_results(
                folder, prefix, found, predictions, test.items, test.metric, about=self.about, provenance=provenance
            )
            print(summary(prefix, found, test.metric, folder / f"{prefix}_{REPORT}"))
        scores["runtime"] = time.time() - start
        scores["samples_per_second"] = len(test.items) / scores["runtime"]
        named = {f"{prefix}_{name}": value for name, value in scores.items()}
        self.log(dict(named))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    def _evaluated(
        self, test: TestSet, prefix: str, folder: Path, provenance: Mapping[str, object], *, loss: bool
    ) -> tuple[Outcome, list[Prediction]]:
        """Scores, and the predictions that they are of.

        Raises:
            RunError: the loss is not finite.
            Interrupted: a signal came.
        """
        model = self._ready_for_evaluation()
        model.eval()
        loader = Loader(
            collator=self.collator,
            batch_size=self.args.eval_batch_size,
            num_workers=self.args.dataloader_num_workers,
        )
        found = Outcome(scores={})
        predictions: list[Prediction] = []
        if self.generates:
            predictions = answer_test_set(
                model,
                test,
                self.processor,
                loader,
                self.accelerator,
                folder=folder,
                prefix=prefix,
                provenance=provenance,
                seed=self.args.seed,
                resume=self._resumes and not self.is_in_train,
            )
            image_of = ImageIds()
            images = [image_of(test.items[prediction.index]) for prediction in predictions]
            found = outcome(test.metric, predictions, images)
        if loss:
            losses = mean_losses(model, test.items, self.processor, loader, self.accelerator)
            mean = losses["loss"]
            if not math.isfinite(mean):
                training = (
                    f", after step {self.state.global_step} of training; {self._kept()}" if self.is_in_train else ""
                )
                why = f"the loss is {mean}: the model's values overflow its dtype{training}"
                fail(RunError(f"{prefix}: {why}", kind="diverged"))
            found = replace(found, scores={**found.scores, **losses})
        return found, predictions

    def _provenance(self, test: TestSet) -> dict[str, object]:
        """What a score is of: see `mllm.pipeline.provenance`."""
        known = self.described_model
        saved = self.state.global_step > 0 and not self.is_in_train
        return {
            "model": of_model({**known, "model_name_or_path": str(self.folder)}) if saved else known,
            "trained_steps": self.state.global_step,
            **of_test(test, self.processor, self.prompt_format),
            **of_machine(self.args.device, self.args.world_size, next(self.model.parameters()).dtype),
        }

    def _ready_for_evaluation(self) -> Any:
        """The model to evaluate, sharded where the launch asks for it (training has done so already)."""
        if not has_prepared_model(self.accelerator):
            if self.is_fsdp_enabled:
                # accelerate shards a model only beside an optimizer; this one never steps, and holds no state
                idle = torch.optim.SGD(self.model.parameters(), lr=0.0)
                self.model, _ = self.accelerator.prepare(self.model, idle)
                forget_last_optimizer(self.accelerator)
                self.model_wrapped = self.model
                register_fsdp_forward_method(self.model, "generate")
            elif is_deepspeed_zero3_enabled():
                deepspeed_init(self, num_training_steps=0, inference=True)
                self.model_wrapped = self.accelerator.prepare(self.model)
            else:
                self.model.to(self.args.device)
        registered = "generate_with_shared_prefix" in vars(self.model)
        if self.is_fsdp_enabled and self.model.supports_prefix_sharing and not registered:
            register_fsdp_forward_method(self.model, "generate_with_shared_prefix")
        return self.model

    @property
    def plans(self) -> bool:
        """Whether batches are planned ahead."""
        return self.collator.packing != "none" and self.window > 0

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As transformers', but batches of packed rows are planned ahead, and workers read on after a signal."""
        loader = self._planned_loader() if self.plans else super().get_train_dataloader()
        inner = getattr(loader, "base_dataloader", loader)  # accelerate wraps it, and has no such argument
        assert isinstance(self.train_dataset, TrainDataset)
        inner.worker_init_fn = partial(start_worker, self.train_dataset.open.settings, init=inner.worker_init_fn)
        return loader

    def planned(self) -> Any:
        """The batches of all ranks, as `PlannedBatches`."""
        assert isinstance(self.train_dataset, TrainDataset)
        return PlannedBatches(
            self.train_dataset,
            self._get_train_sampler(),
            batch_size=batch_size_of(self),
            ranks=self.accelerator.num_processes,
            cost=cost_of(self.model, self.processor.view),
            sharing=self.collator.packing == "shared",
            window=max(self.window, 1),
            room=self.collator.max_tokens,
            drop_last=self.args.dataloader_drop_last,
        )

    def _planned_loader(self) -> DataLoader[Any]:
        assert isinstance(self.train_dataset, TrainDataset)
        args, accelerator = self.args, self.accelerator
        self.plan = self.planned()
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_sampler=self.plan,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            prefetch_factor=args.dataloader_prefetch_factor,
            in_order=args.dataloader_in_order,
            worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
        )
        return accelerator.prepare(loader)

    @replaces(Seq2SeqTrainer)
    def _get_train_sampler(self, train_dataset: object = None) -> SeededEpochSampler:
        assert isinstance(self.train_dataset, TrainDataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return SeededEpochSampler(self.train_dataset, seed=seed, shuffle=self.args.train_sampling_strategy == "random")

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if new and self.rates != ParamGroupOptions():
            logger.info(
                "learning rates:\n%s", split_param_groups(optimizer, self.model if model is None else model, self.rates)
            )
        return optimizer


class _Follow(TrainerCallback):
    """Tells the training set its epoch, and the plan what a resumed run has done."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        assert isinstance(self.trainer.train_dataset, TrainDataset)
        self.trainer.train_dataset.set_epoch(int(state.epoch or 0))
        plan = self.trainer.plan
        if plan is not None and not args.ignore_data_skip:
            # transformers throws away the batches before those that a resumed run goes on with
            batches = args.gradient_accumulation_steps
            plan.done = state.global_step % -(-len(plan) // plan.ranks // batches) * batches
