"""What the models share: `TextModel` is a transformers model around a language model, `Composite` one that also sees.

Shape suffixes: B rows, T tokens, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from mllm.compat.names import replaces
from mllm.compat.transformers_models import mark_what_was_read
from mllm.errors import ModelError
from mllm.models.checkpoints.vocabulary import record_rows
from mllm.models.language_models import continuing_obstacle, padding_obstacle, sharing_obstacle
from mllm.models.parts import PartedModel
from mllm.models.runtime.loss import LanguageOutput, Scoring, labelled_loss
from mllm.models.runtime.packed_attention import (
    check_packing,
    check_packing_was_used,
    enable_packed_attention,
    mask_arguments,
)
from mllm.models.runtime.packed_mask import PackedAttentionMask
from mllm.models.runtime.prefix_cache import PrefixRows
from mllm.tokenizer_files import required_token
from mllm.types import IMAGE


class TextModel(PartedModel):
    """A subclass sets `language_model`; generation and embeddings are the language model's."""

    language_model: Any
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, **arguments: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As `PartedModel`, with the generation settings of the language model."""
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

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> Any:
        return self.language_model.resize_token_embeddings(*arguments, **named)

    @property
    def text_model(self) -> Any:
        return self.language_model

    @property
    def sharing_obstacle(self) -> str | None:
        return sharing_obstacle(self.language_model)

    @property
    def continuing_obstacle(self) -> str | None:
        return continuing_obstacle(self.language_model)

    @property
    def padding_obstacle(self) -> str | None:
        return padding_obstacle(self.language_model)

    def read_prefixes(self, *arguments: Any, **named: Any) -> PrefixRows:
        """Raises ModelError: not without a way of the model's own."""
        raise ModelError(f"{self.sharing_obstacle}: prompts cannot share one reading of their beginning")

    def generate_with_shared_prefix(self, *arguments: Any, **named: Any) -> Tensor:
        """Raises ModelError: not without a way of the model's own."""
        raise ModelError(f"{self.sharing_obstacle}: prompts cannot share one reading of their beginning")

    def check_packing(self) -> None:
        """
        Raises:
            ModelError: samples packed into one row would see each other.
        """
        check_packing(self.language_model)

    def packed(self, segment_ids: Tensor | None, prefix_ids: Tensor | None) -> PackedAttentionMask | None:
        """What the tokens of packed rows see of one another; None for other rows.

        Raises:
            ModelError: the language model's attention is not one that learns of it.
        """
        if segment_ids is None or prefix_ids is None:
            return None
        enable_packed_attention(self.language_model)
        return PackedAttentionMask(segment_ids, prefix_ids)

    def read(
        self,
        text_BTD: Tensor,
        packed: PackedAttentionMask | None,
        *,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        labels: Tensor | None,
        num_items_in_batch: Tensor | int | None,
        return_logits: bool,
        logits_to_keep: int | Tensor,
        scoring: Scoring | None,
    ) -> LanguageOutput:
        """The loss where there are labels, else the logits, of embeddings [B, T, D]; see `Composite.forward`."""
        places = {"attention_mask": attention_mask, "position_ids": position_ids, **mask_arguments(packed)}
        # not every language model takes `position_ids`
        places = {name: value for name, value in places.items() if value is not None}

        def run(**more: object) -> Any:
            return self.language_model(inputs_embeds=text_BTD, use_cache=False, **places, **more)

        if labels is None:
            output = LanguageOutput(logits=run(logits_to_keep=logits_to_keep).logits)
        else:
            output = labelled_loss(
                self.language_model,
                run,
                labels,
                num_items_in_batch=num_items_in_batch,
                return_logits=return_logits,
                scoring=scoring,
            )
        check_packing_was_used(packed, self.language_model)
        return output


class Composite(TextModel):
    """Of a vision tower, a causal language model, and parts between: LLaVA and Flamingo. A subclass sets both."""

    vision_tower: Any
    embedded: Callable[..., AbstractContextManager[Tensor]]
    """(input_ids, pixels, image_index, packed=None, what else the model takes of images) -> the embeddings of the text
    [B, T, D]; within this context the language model sees the images."""

    input_modalities = ["image", "text"]  # noqa: RUF012, a class attribute of transformers

    @classmethod
    def is_custom_code(cls) -> bool:
        """No, so that transformers fills in what no file holds: it skips modules of custom code without own weights,
        though some of them compute buffers of the layers inside (Falcon H1)."""
        return False

    @replaces(PreTrainedModel)
    def _initialize_missing_keys(self, is_quantized: bool) -> None:
        """As in transformers, but modules that were read whole stay as they are (one of Youtu's would lose a row)."""
        mark_what_was_read(self)
        super()._initialize_missing_keys(is_quantized)

    def record_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """
        Raises:
            ModelError: it has no token `<image>`.
        """
        self.config.image_token_id = required_token(tokenizer, IMAGE)
        record_rows(self)

    def freeze(self, parts: Sequence[str]) -> None:
        """As `PartedModel`; what no feature depends on is never trained."""
        super().freeze(parts)
        self.vision_tower.freeze_unused()

    def forward(
        self,
        input_ids: Tensor,
        pixels: Tensor | None = None,
        image_index: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        prefix_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        return_logits: bool = False,
        scoring: Scoring | None = None,
        logits_to_keep: int | Tensor = 0,
        **image_args: Tensor,
    ) -> LanguageOutput:
        """The loss where there are labels, else the logits.

        Args:
            input_ids: int64 [B, T].
            pixels: [N, C, H, W], each distinct image once, or its tiles or frames; None in a text-only batch.
            image_index: int64 [S], number of the image in each slot in reading order; None: every image once, in order.
            attention_mask: int64 [B, T].
            position_ids: int64 [B, T].
            segment_ids: int64 [B, T], of packed rows, with `prefix_ids` and `position_ids`, instead of
                `attention_mask`; see `PackedAttentionMask`.
            prefix_ids: int64 [B, T].
            labels: int64 [B, T], -100 where unsupervised; not shifted.
            num_items_in_batch: labelled tokens that the loss is divided by; None: those of this batch.
            return_logits: give all logits beside the loss.
            scoring: asks for the labels' log-probabilities in place of the loss.
            logits_to_keep: without labels, only that many last positions (0: all), or those of an index.
            image_args: what else the model's `embedded` takes of the images.

        Raises:
            ModelError: the slots in the text are not those that the images fill, or rows are packed and the language
                model's attention is not PyTorch's own ("sdpa"), or does not learn of the packing.
        """
        packed = self.packed(segment_ids, prefix_ids)
        with self.embedded(input_ids, pixels, image_index, packed=packed, **image_args) as text_BTD:
            return self.read(
                text_BTD,
                packed,
                attention_mask=attention_mask,
                position_ids=position_ids,
                labels=labels,
                num_items_in_batch=num_items_in_batch,
                return_logits=return_logits,
                scoring=scoring,
                logits_to_keep=logits_to_keep,
            )

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

    @property
    def features_obstacle(self) -> str | None:
        return None if "vision_tower" in self.frozen else "training changes its vision tower"

    def encode_pixels(self, pixels_NCHW: Tensor, *behind: Callable[[Tensor], Tensor]) -> Tensor:
        """Pixels through the vision tower and what stands behind it; of the first of these that are frozen, features
        are taken from `kept` where images have keys."""
        stages: list[Any] = [self.vision_tower, *behind]
        features = pixels_NCHW
        if self.kept is not None and self.kept.active:
            frozen = list(takewhile(_is_frozen, stages))
            stages = stages[len(frozen) :]
            rows = self.kept.of(
                lambda numbers: [{"features": row} for row in _apply_in_turn(frozen, pixels_NCHW[numbers])],
                pixels_NCHW.device,
            )
            features = torch.stack([row["features"] for row in rows])
        return _apply_in_turn(stages, features)

    def blank_image(self, device: torch.device) -> Tensor:
        """[1, C, H, W] of zeros: what a text-only batch runs through the vision tower, without weight."""
        tower = self.vision_tower
        return torch.zeros(1, tower.channels, tower.size, tower.size, device=device)


def _is_frozen(stage: nn.Module) -> bool:
    return not stage.training and not any(parameter.requires_grad for parameter in stage.parameters())


def _apply_in_turn(stages: Sequence[Callable[[Tensor], Tensor]], features: Tensor) -> Tensor:
    for stage in stages:
        features = stage(features)
    return features


def sharding_units(model: nn.Module) -> set[str]:
    """Names of the classes that FSDP shards one by one: the repeated layers of the parts that the model has."""
    return {type(module).__name__ for module in model.modules() if isinstance(module, GradientCheckpointingLayer)}
