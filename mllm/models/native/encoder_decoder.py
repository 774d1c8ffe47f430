"""A transformers vision language model whose encoder reads the image and the prompt, and whose decoder answers.

Shape suffixes: B rows, T tokens of a row, E tokens of its prompt, D tokens of its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mllm.errors import ModelError
from mllm.models.encoder_decoder import EncoderDecoder, share_embedding
from mllm.models.native.model import Native
from mllm.models.runtime.loss import Scoring, loss_of_targets


class NativeEncoderDecoder(EncoderDecoder, Native):
    """Takes rows of prompt and answer as every model here, and gives the encoder the one, the decoder the other."""

    @property
    def stacks(self) -> Any:
        return self.text_model

    def attach(self, **given: Any) -> None:
        """As `Native`.

        Raises:
            ModelError: nothing says which token starts the decoder.
        """
        super().attach(**given)
        share_embedding(self.stacks)
        start = self.generation_config
        if start.decoder_start_token_id is None:  # transformers' generate would take another than its training does
            start.decoder_start_token_id = getattr(self.stacks.config, "decoder_start_token_id", None)
        if start.decoder_start_token_id is None:
            raise ModelError(
                where=self.config.model_type,
                field="decoder_start_token_id",
                expected="a token to start the decoder with",
                found="nothing",
            )

    @property
    def features_obstacle(self) -> str:
        return f"{self.config.model_type} reads images within its encoder"

    def run(
        self,
        forward: Callable[..., object],
        input_ids: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        return_logits: bool = False,
        scoring: Scoring | None = None,
        **arguments: Any,
    ) -> Any:
        """As `Native`; without labels, the logits of the first token of the answers [B, 1, V]."""
        if input_ids is None:  # a step of generation
            return forward(attention_mask=attention_mask, labels=labels, **arguments)
        if labels is None:
            prompt_BE, mask_BE = self.prompts(input_ids, attention_mask)
            own, _ = self._own_arguments(prompt_BE, None, arguments)
            return forward(input_ids=prompt_BE, attention_mask=mask_BE, **own)
        prompt_BE, mask_BE, labels_BD = self.prompts_and_answers(input_ids, attention_mask, labels)
        own, blank = self._own_arguments(prompt_BE, None, arguments)

        def whole() -> Any:
            return forward(
                input_ids=prompt_BE,
                attention_mask=mask_BE,
                decoder_input_ids=self.shifted(labels_BD),
                use_cache=False,
                **own,
            )

        with self._seeing(blank):
            return loss_of_targets(
                self,
                whole,
                labels_BD,
                num_items_in_batch=num_items_in_batch,
                return_logits=return_logits,
                scoring=scoring,
            )

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **arguments: Any) -> Tensor:
        """As `Native`."""
        prompt_BE, mask_BE = self.prompts(input_ids, attention_mask)
        own, blank = self._own_arguments(prompt_BE, None, arguments)
        if blank:
            self.family.features(self, blank)
        own = self.within_answers(len(prompt_BE), own)
        ids: Any = self.generate_own(input_ids=prompt_BE, attention_mask=mask_BE, **own)
        return ids[:, 1:]  # the first token starts the decoder
