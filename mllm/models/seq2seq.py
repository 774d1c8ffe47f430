"""Text to text: an encoder reads the prompt, a decoder writes the answer. T5 and other models of transformers.

Rows are those of every model here, prompt and answer in one: the supervised end of a row is what the decoder writes.

Shape suffixes: B rows, T tokens of a row, E tokens of its prompt, D tokens of its answer.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from mllm.errors import ModelError
from mllm.fields import PathName
from mllm.models.arguments import Attention, Dtype, RowMultiple, Spec
from mllm.models.auto import read_config
from mllm.models.components import finish, local_folder, text_model, torch_dtype
from mllm.models.language_models import table_limit
from mllm.models.runtime.loss import IGNORE, LanguageOutput, Scoring, mean_cross_entropy, scores
from mllm.models.runtime.position_table import TableEnd, check_fits, ending
from mllm.models.runtime.quantization import QuantizationConfig
from mllm.models.text_only import TextOnly, check_one_source
from mllm.registry import MODELS


class Seq2Seq(TextOnly):
    """Around one of transformers' encoder-decoder models."""

    def __init__(self, inner: Any) -> None:
        _share_embedding(inner)
        super().__init__(inner)

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> Any:
        embeddings = super().resize_token_embeddings(*arguments, **named)
        _share_embedding(self.language_model)
        return embeddings

    @property
    def sharing_obstacle(self) -> str:
        return "its encoder reads each prompt by itself"

    @property
    def continuing_obstacle(self) -> str:
        return self.sharing_obstacle

    @property
    def padding_obstacle(self) -> None:
        return None

    def check_packing(self) -> None:
        """Raises ModelError: no two samples fit into a row."""
        raise ModelError("an encoder-decoder model cannot pack: each of its rows has one answer; set packing to 'none'")

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        scoring: Scoring | None = None,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        prefix_ids: Tensor | None = None,
    ) -> LanguageOutput:
        """The loss of the answers, summed and divided by `num_items_in_batch`, else by the number of labels.

        Args:
            input_ids: int64 [B, T], prompt and answer.
            attention_mask: int64 [B, T].
            labels: int64 [B, T], -100 in prompts; not shifted.
            num_items_in_batch: labelled tokens that the loss is divided by.
            scoring: asks for the labels' log-probabilities in place of the loss.
            position_ids: of packed rows, which hold several answers, as the next two: refused.
            segment_ids: see `position_ids`.
            prefix_ids: see `position_ids`.

        Raises:
            ModelError: no labels, labels elsewhere than at the end of a row, rows of several answers, or more tokens
                than a table of positions has.
        """
        if not (position_ids is None and segment_ids is None and prefix_ids is None):
            self.check_packing()
        if labels is None:
            raise ModelError("an encoder-decoder model needs labels to compute a loss")
        real_BT = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
        answer_BT = (labels != IGNORE) & real_BT
        if bool((answer_BT[:, :-1] & ~answer_BT[:, 1:] & real_BT[:, 1:]).any()):
            raise ModelError("an encoder-decoder model writes one answer per row: use template='seq2seq'")
        prompt_BE, prompt_mask_BE = compact(input_ids, real_BT & ~answer_BT, self.language_model.config.pad_token_id)
        labels_BD, _ = compact(labels, answer_BT, IGNORE)
        check_fits(self._positions[0], prompt_BE.shape[1], "prompts", "the encoder")
        check_fits(self._positions[1], labels_BD.shape[1], "answers", "the decoder")

        def run() -> Any:
            return self.language_model(
                input_ids=prompt_BE,
                attention_mask=prompt_mask_BE,
                decoder_input_ids=self._shifted(labels_BD),
                use_cache=False,
            )

        if scoring is not None:
            return scores(self.language_model, run, labels_BD, scoring)
        return mean_cross_entropy(self.language_model, run, labels_BD, num_items_in_batch)

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **generation_args: Any) -> Tensor:
        """The answers to padded prompts, int64 [B, new tokens]; arguments as in transformers' generate."""
        real_BT = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
        prompt_BE, mask_BE = compact(input_ids, real_BT, self.language_model.config.pad_token_id)
        check_fits(self._positions[0], prompt_BE.shape[1], "prompts", "the encoder")
        if (most := self._positions[1]) is not None:
            generation_args = ending(generation_args, TableEnd(torch.full((len(prompt_BE),), most), 1))
        new = self.language_model.generate(input_ids=prompt_BE, attention_mask=mask_BE, **generation_args)
        return new[:, 1:]  # the first token starts the decoder

    @functools.cached_property
    def _positions(self) -> tuple[int | None, int | None]:
        """How many tokens the encoder and the decoder can read; None: any number."""
        return table_limit(self.language_model.get_encoder()), table_limit(self.language_model.get_decoder())

    def _shifted(self, labels_BD: Tensor) -> Tensor:
        """What the decoder reads: its start token, then the answer but for the last token."""
        inputs_BD = pad(labels_BD[:, :-1], (1, 0), value=self.generation_config.decoder_start_token_id)
        return inputs_BD.masked_fill(inputs_BD == IGNORE, self.language_model.config.pad_token_id)


def _share_embedding(inner: Any) -> None:
    """Have encoder and decoder embed by one module, where each has its own for one weight, which FSDP cannot shard."""
    shared = inner.get_input_embeddings()
    for stack in (inner.get_encoder(), inner.get_decoder()):
        own = stack.get_input_embeddings()
        if type(own) is type(shared) and own.weight is shared.weight:
            stack.set_input_embeddings(shared)


def compact(values_BT: Tensor, kept_BT: Tensor, fill: int) -> tuple[Tensor, Tensor]:
    """The kept values of each row from its first column on, and a mask of them, int64; the rest is `fill`."""
    length = max(int(kept_BT.sum(1).max()), 1)
    order_BT = torch.argsort(kept_BT.int(), dim=1, descending=True, stable=True)[:, :length]
    mask = kept_BT.gather(1, order_BT)
    return values_BT.gather(1, order_BT).masked_fill(~mask, fill), mask.long()


@MODELS.register_module("seq2seq")
def seq2seq(
    *,
    tokenizer: PreTrainedTokenizerBase,
    model_name_or_path: PathName | None = None,
    language_model: Spec | None = None,
    dtype: Dtype | None = None,
    attn_implementation: Attention | None = None,
    quantization: QuantizationConfig | None = None,
    pad_to_multiple_of: RowMultiple | None = None,
) -> Seq2Seq:
    """An encoder-decoder model in evaluation mode.

    Args:
        tokenizer: embeddings are added where tokens lack.
        model_name_or_path: local folder of one of transformers' encoder-decoder models.
        language_model: instead, a dict of a transformers config for random weights.
        dtype: "float32" (default), "bfloat16", "float16", or "auto": that of the folder.
        attn_implementation: as in transformers; default: its choice.
        quantization: as it is loaded; see `quantized_loading`.
        pad_to_multiple_of: round the number of embeddings up when some are added.

    Raises:
        ConfigError: arguments that contradict one another, or unknown names.
        ModelError: a folder that does not hold an encoder-decoder model.
    """
    check_one_source("seq2seq", model_name_or_path, language_model)
    inner = _inner(
        "language_model" if model_name_or_path is None else "model_name_or_path",
        model_name_or_path or language_model,
        tokenizer,
        dtype=torch_dtype(dtype),
        attn_implementation=attn_implementation,
        quantization=quantization,
    )
    if model_name_or_path is None:
        for config in (inner.config, inner.generation_config):
            config.decoder_start_token_id = tokenizer.pad_token_id  # as T5's
    if inner.generation_config.decoder_start_token_id is None:
        raise ModelError(
            where=inner.config.model_type,
            field="decoder_start_token_id",
            expected="a token to start the decoder with",
            found="nothing",
        )
    return finish(Seq2Seq(inner), tokenizer, pad_to_multiple_of=pad_to_multiple_of)


def _inner(argument: str, spec: Any, tokenizer: PreTrainedTokenizerBase, **loading: Any) -> Any:
    if isinstance(spec, str):
        found = read_config(local_folder(argument, spec))
        if not found.is_encoder_decoder:
            raise ModelError(
                f"{found.model_type} has no encoder and decoder; seq2seq takes T5 and similar models",
                where=spec,
                field=argument,
            )
    return text_model(AutoModelForSeq2SeqLM, spec, tokenizer, **loading)
