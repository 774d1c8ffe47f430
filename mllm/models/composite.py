"""What the models share: `TextModel` is a transformers model around a language model, `Composite` one that also sees.

Shape suffixes: B rows, T tokens, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

import mllm.models.runtime.mpt  # noqa: F401, makes MPTs that pack
from mllm.errors import ConfigError, ModelError, nearest
from mllm.models.adapters.selection import is_quantized
from mllm.models.language_models import padding_obstacle, sharing_obstacle
from mllm.models.runtime.loss import given, next_token_loss
from mllm.models.runtime.packed_attention import PackedAttentionMask, check_packing, check_packing_was_used, reading


@dataclass
class CompositeOutput(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None
    """[B, T, V]"""


class TextModel(PreTrainedModel):
    """A subclass sets `language_model`; generation and embeddings are the language model's."""

    language_model: Any
    frozen: tuple[str, ...] = ()
    """Parts that are not trained, and so drop nothing out."""

    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def train(self, mode: bool = True) -> TextModel:
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        if mode:
            self.train_checkpointed_layers()
        return self

    def train_checkpointed_layers(self) -> None:
        """Gradients pass through frozen layers too, and checkpointing looks at each layer's own flag."""
        for module in self.language_model.modules():
            if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
                module.training = True

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, **arguments: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As in transformers, under the names of `state_dict`: a Trainer resumes by these, without conversion."""
        arguments.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, is_main_process, **arguments)
        if is_main_process:
            self.generation_config.save_pretrained(save_directory)

    @property
    def generation_config(self) -> GenerationConfig:
        return self.language_model.generation_config

    @generation_config.setter
    def generation_config(self, config: GenerationConfig) -> None:
        self.language_model.generation_config = config

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)


class Composite(TextModel):
    """Of a vision tower, a causal language model, and parts between: LLaVA and Flamingo. A subclass sets both."""

    vision_tower: Any

    input_modalities = ["image", "text"]  # noqa: RUF012, a class attribute of transformers

    @classmethod
    def is_custom_code(cls) -> bool:
        """No, so that transformers fills in what no file holds: it skips modules of custom code without own weights,
        though some of them compute buffers of the layers inside (Falcon H1)."""
        return False

    def _initialize_missing_keys(self, is_quantized: bool) -> None:
        """As in transformers, but modules that were read whole stay as they are (one of Youtu's would lose a row)."""
        for module in self.modules():
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            if own and all(getattr(tensor, "_is_hf_initialized", False) for tensor in own):
                setattr(module, "_is_hf_initialized", True)  # noqa: B010, not a declared attribute
        super()._initialize_missing_keys(is_quantized)

    @property
    def sharing_obstacle(self) -> str | None:
        """Why answers to prompts that begin alike cannot share one reading of the beginning; None: they can."""
        return sharing_obstacle(self.language_model)

    @property
    def padding_obstacle(self) -> str | None:
        """Why prompts of different lengths cannot be answered in one batch; None: they can."""
        return padding_obstacle(self.language_model)

    def check_sharing(self) -> None:
        """
        Raises:
            ModelError: prompts cannot share their beginning exactly.
        """
        if self.sharing_obstacle is not None:
            raise ModelError(f"{self.sharing_obstacle}: prompts cannot share a common beginning")

    def check_padding(self, attention_mask: Tensor | None) -> None:
        """
        Raises:
            ModelError: prompts are padded, and that would change their answers.
        """
        if self.padding_obstacle is not None and attention_mask is not None and not attention_mask.all():
            raise ModelError(f"{self.padding_obstacle}: all prompts of a batch must have the same length")

    def check_packing(self) -> None:
        """
        Raises:
            ModelError: samples packed into one row would see each other.
        """
        check_packing(self.language_model)

    def continue_text(
        self,
        text_BTD: Tensor,
        *,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        spans: PackedAttentionMask | None = None,
        labels: Tensor | None,
        num_items_in_batch: Tensor | int | None,
        return_logits: bool,
        logits_to_keep: int | Tensor,
    ) -> CompositeOutput:
        """The language model over embeddings: the loss where there are labels, else the logits; see `forward`."""
        if labels is not None:
            loss, logits = next_token_loss(
                self.language_model,
                text_BTD,
                labels,
                attention_mask=attention_mask,
                position_ids=position_ids,
                spans=spans,
                num_items_in_batch=num_items_in_batch,
                return_logits=return_logits,
            )
            return CompositeOutput(loss=loss, logits=logits)
        output = self.language_model(
            inputs_embeds=text_BTD,
            logits_to_keep=logits_to_keep,
            use_cache=False,
            **given(attention_mask=attention_mask, position_ids=position_ids),
            **reading(spans),
        )
        check_packing_was_used(spans, self.language_model)
        return CompositeOutput(logits=output.logits)

    def enable_input_require_grads(self) -> None:
        """As in transformers, but a frozen vision encoder stays out of the backward pass."""
        self.language_model.enable_input_require_grads()
        if any(parameter.requires_grad for parameter in self.vision_tower.parameters()):
            for encoder in self.vision_tower.encoders:
                encoder.enable_input_require_grads()

    def disable_input_require_grads(self) -> None:
        self.language_model.disable_input_require_grads()
        for encoder in self.vision_tower.encoders:
            encoder.disable_input_require_grads()

    def blank_image(self, device: torch.device) -> Tensor:
        """[1, C, H, W] of zeros: what a text-only batch runs through the vision tower, without weight."""
        tower = self.vision_tower
        return torch.zeros(1, tower.channels, tower.size, tower.size, device=device)


def sharding_units(model: nn.Module) -> set[str]:
    """Names of the classes that FSDP shards one by one: the repeated layers of the parts that the model has."""
    return {type(module).__name__ for module in model.modules() if isinstance(module, GradientCheckpointingLayer)}


def set_trainable(module: nn.Module, trainable: bool) -> None:
    """All of its parameters, but those in few bits, which never are."""
    for parameter in module.parameters():
        parameter.requires_grad_(trainable and not is_quantized(parameter))


def check_parts(parts: Sequence[str], known: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: `freeze` is no list, or names an unknown part.
    """
    if isinstance(parts, str):
        raise ConfigError(f"freeze: expected a list of parts, found the text {parts!r}")
    for name in parts:
        if name not in known:
            raise ConfigError(f"freeze: no part {name!r}; {nearest(name, known)}")
