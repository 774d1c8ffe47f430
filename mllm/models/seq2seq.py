"""Text to text: an encoder reads the prompt, a decoder writes the answer. T5 and other models of transformers.

Shape suffixes: B rows, T tokens of a row, E tokens of its prompt, D tokens of its answer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from mllm.errors import ModelError
from mllm.fields import PathName
from mllm.models.arguments import Attention, Dtype, RowMultiple, Spec
from mllm.models.auto import read_config
from mllm.models.components import finish, local_folder, text_model, torch_dtype
from mllm.models.encoder_decoder import EncoderDecoder, share_embedding
from mllm.models.runtime.loss import LanguageOutput, Scoring, loss_of_targets
from mllm.models.runtime.quantization import QuantizationConfig
from mllm.models.text_only import TextOnlyModel, check_one_source
from mllm.registry import MODELS


class Seq2SeqModel(EncoderDecoder, TextOnlyModel):
    """Around one of transformers' encoder-decoder models."""

    def __init__(self, inner: Any) -> None:
        share_embedding(inner)
        super().__init__(inner)

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> Any:
        embeddings = super().resize_token_embeddings(*arguments, **named)
        share_embedding(self.language_model)
        return embeddings

    @property
    def stacks(self) -> Any:
        return self.language_model

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
        prompt_BE, mask_BE, labels_BD = self.prompts_and_answers(input_ids, attention_mask, labels)

        def run() -> Any:
            return self.language_model(
                input_ids=prompt_BE, attention_mask=mask_BE, decoder_input_ids=self.shifted(labels_BD), use_cache=False
            )

        return loss_of_targets(
            self.language_model, run, labels_BD, num_items_in_batch=num_items_in_batch, scoring=scoring
        )

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **generation_args: Any) -> Tensor:
        """The answers to padded prompts, int64 [B, new tokens]; arguments as in transformers' generate."""
        prompt_BE, mask_BE = self.prompts(input_ids, attention_mask)
        arguments = self.within_answers(len(prompt_BE), generation_args)
        new = self.language_model.generate(input_ids=prompt_BE, attention_mask=mask_BE, **arguments)
        return new[:, 1:]  # the first token starts the decoder


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
) -> Seq2SeqModel:
    """An encoder-decoder language model (T5), text only; in evaluation mode.

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
    return finish(Seq2SeqModel(inner), tokenizer, pad_to_multiple_of=pad_to_multiple_of)


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
