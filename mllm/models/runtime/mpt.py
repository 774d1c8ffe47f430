"""MPT in packed rows: transformers' own keeps masks and positions to itself, and hands nothing to its layers.

`packable` makes an MPT read a `PackedAttentionMask`; without one it is transformers' own.

Shape suffixes: B rows, T tokens, D width, H heads, W width of a head.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn
from transformers import MptForCausalLM, MptModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions, CausalLMOutput
from transformers.models.mpt.modeling_mpt import MptAttention

from mllm.models.runtime.packed_attention import packed_attention
from mllm.models.runtime.packed_mask import PackedAttentionMask


class SpanAttention(MptAttention):
    """MPT's, with `PackedAttentionMask` in the place of a mask where rows are packed."""

    def forward(self, hidden_states: Tensor, position_bias: Tensor, *args: Any, **arguments: Any) -> Any:
        """With `PackedAttentionMask` the `position_bias` is float [B, H, T]: what is added to the scores of a key."""
        spans = arguments.get("attention_mask")
        if not isinstance(spans, PackedAttentionMask):
            return super().forward(hidden_states, position_bias, *args, **arguments)
        made_BTQ = self.Wqkv(hidden_states)
        if self.clip_qkv:
            made_BTQ = made_BTQ.clamp(min=-self.clip_qkv, max=self.clip_qkv)
        query, key, value = (
            part.unflatten(2, (self.n_heads, self.head_dim)).transpose(1, 2) for part in made_BTQ.chunk(3, dim=2)
        )
        seen_BTHW, _ = packed_attention(
            self,
            query,
            key,
            value,
            None,
            spans=spans,
            scaling=self.softmax_scale,
            dropout=self.attn_dropout_p if self.training else 0.0,
            key_bias=position_bias.to(query.dtype),
        )
        return self.out_proj(seen_BTHW.flatten(2)), None


class PackableMptModel(MptModel):
    """MPT's layers, which hand a `PackedAttentionMask` on to their attention.

    Biases reach as far back as there are columns: padding before a prompt takes none of `max_seq_len`.
    """

    columns = 0

    @functools.wraps(MptModel.forward)  # transformers reads the signature
    def forward(self, *args: Any, spans: PackedAttentionMask | None = None, **arguments: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if spans is None:
            mask = arguments.get("attention_mask")
            self.columns = 0 if mask is None else mask.shape[-1]
            return super().forward(*args, **arguments)
        states_BTD: Tensor = arguments["inputs_embeds"]
        slopes_H11 = self.build_mpt_alibi_tensor(self.num_heads, 2, device=states_BTD.device).diff(dim=-1)
        bias_BHT = slopes_H11[:, :, 0] * spans.places[:, None]
        for block in self.blocks:
            states_BTD, _ = block(states_BTD, position_bias=bias_BHT, attention_mask=spans)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self.norm_f(states_BTD))

    def build_mpt_alibi_tensor(self, num_heads: int, sequence_length: int, *args: Any, **arguments: Any) -> Tensor:
        """float [H, 1, distances]: the bias of each distance, the nearest last."""
        return super().build_mpt_alibi_tensor(num_heads, max(sequence_length, self.columns), *args, **arguments)


class PackableMpt(MptForCausalLM):
    """MPT, which also takes embeddings with the `spans` of packed rows.

    Source of its biases: Press et al. 2022 (arXiv 2108.12409). What counts is how far tokens are apart, so that a bias
    for each key, by its place in its own sample, says the same.
    """

    attends_by_spans = True
    transformer: PackableMptModel
    lm_head: nn.Linear

    @functools.wraps(MptForCausalLM.forward)  # transformers reads the signature
    def forward(self, *args: Any, spans: PackedAttentionMask | None = None, **arguments: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if spans is None:
            return super().forward(*args, **arguments)
        states_BTD = self.transformer(inputs_embeds=arguments["inputs_embeds"], spans=spans).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(states_BTD))


def packable(language_model: PreTrainedModel) -> PreTrainedModel:
    """The same model: an MPT as a `PackableMpt`, in place, any other as it is.

    Its modules change their class and nothing else, so that transformers' own classes stay as they are for everybody.
    """
    if type(language_model) is MptForCausalLM:
        mpt: Any = language_model
        mpt.__class__ = PackableMpt
        mpt.transformer.__class__ = PackableMptModel
        for block in mpt.transformer.blocks:
            block.attn.__class__ = SpanAttention
    return language_model
