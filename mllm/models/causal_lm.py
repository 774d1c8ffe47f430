"""Text alone: any causal language model of transformers that can stand behind an image, without one.

Shape suffixes: B rows, T tokens, G beginnings, P their tokens, S tokens of a rest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mllm.compat.transformers_generation import CACHE
from mllm.fields import PathName
from mllm.models.adapters.injection import require_whole_model
from mllm.models.arguments import Attention, Dtype, RowMultiple, Spec
from mllm.models.components import finish, torch_dtype
from mllm.models.components import load_causal_lm as load_causal_lm
from mllm.models.runtime.kv_cache import roomy_cache
from mllm.models.runtime.loss import LanguageOutput, Scoring
from mllm.models.runtime.packed_attention import positions
from mllm.models.runtime.position_table import within_positions
from mllm.models.runtime.prefix_cache import PrefixRows
from mllm.models.runtime.quantization import QuantizationConfig
from mllm.models.text_only import TextOnlyModel, check_one_source
from mllm.registry import MODELS


class CausalLM(TextOnlyModel):
    """Reads and writes text; packs, pads and shares beginnings as its language model can."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        prefix_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        return_logits: bool = False,
        logits_to_keep: int | Tensor = 0,
        scoring: Scoring | None = None,
    ) -> LanguageOutput:
        """As `Composite`, of a batch without images."""
        packed = self.packed(segment_ids, prefix_ids)
        return self.read(
            self.get_input_embeddings()(input_ids),
            packed,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            num_items_in_batch=num_items_in_batch,
            return_logits=return_logits,
            logits_to_keep=logits_to_keep,
            scoring=scoring,
        )

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **generation_args: Any) -> Tensor:
        """The ids that continue left-padded prompts, int64 [B, new tokens]; arguments as in transformers' generate."""
        self.check_padding(attention_mask)
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        length = input_ids.shape[1]
        with within_positions(self.language_model, mask_BT, generation_args, prompt=length) as arguments:
            cache = roomy_cache(self.language_model, generation_args)
            ids = self.language_model.generate(input_ids=input_ids, attention_mask=mask_BT, **cache, **arguments)
        return ids[:, length:]

    @torch.no_grad()
    def read_prefixes(self, input_ids: Tensor, attention_mask: Tensor) -> PrefixRows:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As `VisionLanguageModel`."""
        self.check_sharing()
        read = self.language_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=positions(attention_mask),
            logits_to_keep=1,
            use_cache=True,
            **roomy_cache(self.language_model, {}),
        )
        return PrefixRows(cache=read[CACHE])

    @torch.no_grad()
    def generate_with_shared_prefix(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        suffix_ids: Tensor,
        suffix_mask: Tensor,
        suffix_prefix: Tensor,
        *,
        prefixes: PrefixRows | None = None,
        **generation_args: Any,
    ) -> Tensor:
        """As `VisionLanguageModel`."""
        self.check_sharing()
        read = prefixes or self.read_prefixes(input_ids, attention_mask)
        beginnings, rests = (input_ids, attention_mask), (suffix_ids, suffix_mask)
        return read.continued(self, self.language_model.generate, beginnings, rests, suffix_prefix, generation_args)


@MODELS.register_module("causal_lm")
def causal_lm(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: PathName | None = None,
    language_model: Spec | None = None,
    dtype: Dtype | None = None,
    attn_implementation: Attention | None = None,
    quantization: QuantizationConfig | None = None,
    pad_to_multiple_of: RowMultiple | None = None,
) -> CausalLM:
    """Any causal language model of transformers, text only; in evaluation mode.

    Args:
        tokenizer: embeddings are added where tokens lack.
        model_name_or_path: local folder that transformers' AutoModelForCausalLM reads.
        language_model: instead, a dict of a transformers config for random weights.
        dtype: "float32" (default), "bfloat16", "float16", or "auto": that of the folder.
        attn_implementation: as in transformers (default: its choice), or for packed rows `mllm_packed` or `mllm_flex`.
        quantization: as it is loaded; see `quantized_loading`.
        pad_to_multiple_of: round the number of embeddings up when some are added.

    Raises:
        ConfigError: arguments that contradict one another, or a language model that is refused, see `language_half`.
        ModelError: a folder that does not hold what it should.
    """
    check_one_source("causal_lm", model_name_or_path, language_model)
    if model_name_or_path is not None:
        require_whole_model(model_name_or_path)
    inner = load_causal_lm(
        model_name_or_path or language_model or "",
        tokenizer,
        dtype=torch_dtype(dtype),
        attn_implementation=attn_implementation,
        quantization=quantization,
    )
    return finish(CausalLM(inner), tokenizer, pad_to_multiple_of=pad_to_multiple_of)
