"""The parts of a model, known by the names of its modules: one map, which freezing, adapters, rates, tables and
checkpoints read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from mllm.errors import ConfigError, ModelError, nearest
from mllm.fields import show
from mllm.models.language_models import freeze_unlearned

# in this order: cross-attention layers may lie inside the language model
PART_PATTERNS = {
    "vision_tower": re.compile(
        r"^(model\.)?((high_res_)?vision_(tower|encoder|model)|(image|video)_tower|vqmodel"
        r"|visual(?!\.(deepstack_)?merger))\b"
    ),
    "cross_attention": re.compile(r"(^|\.)(gated_)?cross_att(n|ention)"),
    "connector": re.compile(
        r"^(model\.)?(connector|mosaic|perceiver(_resampler)?|(multi_modal_|mm_)?projector|(layerwise|spatial)_projectors"
        r"|(image_to_text|vision|language)_projection|visual\.\w*merger\w*|merger|aligner|qformer|query_tokens|resampler_model"
        r"|embed_vision|vision_adapter|vision_embed_tokens|visual_embeddings_table|image_newline|view_separator"
        r"|high_res_vision_(neck|proj|alpha))\b"
    ),
    "language_model": re.compile(
        r"^((model\.)?(language_model|lang_encoder|text_model)|model\.(embed_tokens|layers|norm)|lm_head)\b"
    ),
}
"""By the names of our models and those of transformers."""


@cache  # models ask at every step
def part_of(name: str) -> str:
    """The part that a module or parameter of this name belongs to, or "rest"."""
    return next((part for part, pattern in PART_PATTERNS.items() if pattern.search(name)), "rest")


def is_quantized(parameter: torch.Tensor) -> bool:
    """Whether it is stored in few bits: such a parameter cannot be trained, whatever dtype it claims."""
    return not parameter.is_floating_point() or type(parameter).__module__.startswith(("bitsandbytes.", "torchao."))


_READ_BY_ITSELF = re.compile(r"\baltup\.\w+_coefs$")
"""Linear layers whose weights Gemma 3n reads and changes beside calling them."""


def is_plain_linear(name: str, layer: torch.nn.Module) -> bool:
    """Whether another layer may stand in for this linear one: its model only calls it, and it gives what that gives.

    The routers of Llama 4 and Phi-MoE are linear layers that give several tensors.
    """
    return not type(layer).__name__.endswith("Router") and _READ_BY_ITSELF.search(name) is None


class PartedModel(PreTrainedModel):
    """A transformers model whose parts can be frozen, and which is saved under the names by which a Trainer resumes.

    Attributes:
        part_names: what `freeze` calls each part that the model has.
        sharing_obstacle: why prompts cannot share their beginning, None where they can; a subclass says it.
        padding_obstacle: why prompts of one batch must be equally long, likewise.
        continuing_obstacle: why a cached prompt cannot go on by several tokens at once, likewise.
        branches_hold_images: as `VisionLanguageModel`.
        frozen: parts that are not trained, and so drop nothing out.
        kept: as `VisionLanguageModel`.
    """

    part_names: ClassVar[Mapping[str, str]]
    sharing_obstacle: object
    padding_obstacle: object
    continuing_obstacle: object
    branches_hold_images: bool = False
    frozen: tuple[str, ...] = ()
    kept: Any = None
    accepts_loss_kwargs = True

    def record_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Record in the config what the model must know of its tokenizer, before embeddings are added."""

    @property
    def supports_prefix_sharing(self) -> bool:
        """Whether `generate_with_shared_prefix` answers exactly as `generate` does."""
        return self.sharing_obstacle is None

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

    def freeze(self, parts: Sequence[str]) -> None:
        """Train all parts but these, and what no loss reaches.

        Raises:
            ConfigError: `parts` is no list, or names an unknown part.
        """
        if isinstance(parts, str):
            raise ConfigError(field="freeze", expected="a list of parts", found=show(parts))
        for name in parts:
            if name not in self.part_names:
                hint = nearest(name, self.part_names)
                raise ConfigError(hint, field="freeze", expected="a part of the model", found=show(name))
        self.frozen = tuple(part for name, part in self.part_names.items() if name in parts)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(part_of(name) not in self.frozen and not is_quantized(parameter))
        freeze_unlearned(self)
        self.train(self.training)

    def freeze_untrained(self) -> None:
        """Have the parts that hold no trained parameter drop nothing out; the others train as they are."""
        trained = self.trained_parts
        self.frozen = tuple(part for part in self.part_names.values() if part not in trained)
        self.train(self.training)

    @property
    def trained_parts(self) -> set[str]:
        """The parts that hold a trained parameter."""
        return {part_of(name) for name, parameter in self.named_parameters() if parameter.requires_grad}

    @property
    def features_obstacle(self) -> str | None:
        """Why features of images cannot be kept across epochs; None: they can."""
        return "the model sees no images"

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        if mode and self.frozen:
            for name, module in self.named_modules():
                part = part_of(name)
                if part in self.frozen:
                    # gradients pass through a frozen language model; checkpointing looks at each layer's own flag
                    checkpointed = isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
                    module.training = checkpointed and part in ("language_model", "cross_attention")
        return self

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, **arguments: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As in transformers, under the names of `state_dict`: a Trainer resumes by these, without conversion."""
        arguments.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, is_main_process, **arguments)
