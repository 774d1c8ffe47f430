"""transformers' training loop, whose folders load as whole models, and whose adapted models are saved as adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import save_fsdp_optimizer
from transformers import Seq2SeqTrainer

from mllm.compat.names import replaces
from mllm.conversation.processor import Processor
from mllm.models.adapters.injection import adaptation_of, gather_adapted, load_adapted, save_adapted
from mllm.models.prompt_format import PromptFormat, save_prompt_format
from mllm.pipeline.guarded_trainer import GuardedTrainer
from mllm.tokenizer_saving import save_tokenizer


class SavingTrainer(GuardedTrainer):
    """Saves with a model what reads it again: the `processor`'s tokenizer, its `kind` and its `prompt_format`."""

    model: Any

    def __init__(self, *, processor: Processor, kind: str, prompt_format: PromptFormat, **rest: Any) -> None:
        super().__init__(processing_class=processor.tokenizer, **rest)
        self.processor = processor
        self.kind = kind
        self.prompt_format = prompt_format

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """A folder that loads as one whole model, also from sharded training, where transformers would write none.

        Checkpoints of sharded training hold shards instead; those of adapted models, which are small, are folders too.
        """
        adapted = adaptation_of(self.model) is not None
        if not self.is_fsdp_enabled or (_internal_call and not adapted):
            super().save_model(output_dir, _internal_call)
            return
        if adapted:
            weights = gather_adapted(self.model, keep=self.args.should_save)
        else:
            weights = self.accelerator.get_state_dict(self.model)
        if self.args.should_save:
            self._save(output_dir or self.args.output_dir, state_dict=weights)
        self.accelerator.wait_for_everyone()

    @replaces(Seq2SeqTrainer)
    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """As transformers', which writes all weights too where they are sharded, the frozen base among them."""
        if adaptation_of(self.model) is None or not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            scheduler: Any = self.lr_scheduler
            torch.save(scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    @replaces(Seq2SeqTrainer)
    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """As transformers', but of an adapted model what its base lacks."""
        folder = str(output_dir or self.args.output_dir)
        if adaptation_of(self.model) is None:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            save_adapted(self.model, folder, state_dict)
            torch.save(self.args, Path(folder) / "training_args.bin")
        if self.args.should_save:
            save_tokenizer(self.processor.tokenizer, folder, probes=self.processor.renderer.probes())
            save_prompt_format(folder, self.kind, self.prompt_format)

    @replaces(Seq2SeqTrainer)
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if adaptation_of(self.model) is None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_adapted(self.model, resume_from_checkpoint)

    @replaces(Seq2SeqTrainer)
    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best is None or adaptation_of(self.model) is None or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            load_adapted(self.model, best)
