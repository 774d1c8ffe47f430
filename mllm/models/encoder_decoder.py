"""What models of an encoder and a decoder share: rows of prompt and answer, cut in two.

Rows are those of every model here, prompt and answer in one: the supervised end of a row is what the decoder writes.

Shape suffixes: B rows, T tokens of a row, E tokens of its prompt, D tokens of its answer.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mllm.errors import ModelError
from mllm.models.language_models import table_limit
from mllm.models.runtime.loss import IGNORE_INDEX
from mllm.models.runtime.position_table import TableEnd, check_fits, ending


class EncoderDecoder:
    """Comes before a model's class: the encoder reads a prompt by itself, the decoder writes one answer to it."""

    @property
    def stacks(self) -> Any:
        """What holds the encoder and the decoder."""
        raise NotImplementedError

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

    def prompts(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Padded prompts int64 [B, T] as the encoder reads them: ids and mask, both int64 [B, E], padding behind.

        Raises:
            ModelError: more tokens than the encoder's table of positions has.
        """
        return self._compacted(input_ids, _real(input_ids, attention_mask))

    def prompts_and_answers(
        self, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows int64 [B, T] as `prompts`, and their answers int64 [B, D], -100 behind.

        Raises:
            ModelError: labels elsewhere than at the end of a row, or more tokens than a table of positions has.
        """
        real_BT = _real(input_ids, attention_mask)
        answer_BT = (labels != IGNORE_INDEX) & real_BT
        if bool((answer_BT[:, :-1] & ~answer_BT[:, 1:] & real_BT[:, 1:]).any()):
            raise ModelError("an encoder-decoder model writes one answer per row: use template='seq2seq'")
        prompt_BE, mask_BE = self._compacted(input_ids, real_BT & ~answer_BT)
        labels_BD, _ = compact(labels, answer_BT, IGNORE_INDEX)
        check_fits(self._positions[1], labels_BD.shape[1], "answers", "the decoder")
        return prompt_BE, mask_BE, labels_BD

    def shifted(self, labels_BD: Tensor) -> Tensor:
        """What the decoder reads: its start token, then the answer but for the last token."""
        model: Any = self
        inputs_BD = pad(labels_BD[:, :-1], (1, 0), value=model.generation_config.decoder_start_token_id)
        return inputs_BD.masked_fill(inputs_BD == IGNORE_INDEX, self.stacks.config.pad_token_id)

    def within_answers(self, rows: int, arguments: Mapping[str, Any]) -> dict[str, object]:
        """The arguments of `generate`, by which no answer goes on where the decoder has no position left."""
        most = self._positions[1]
        return dict(arguments) if most is None else ending(arguments, TableEnd(torch.full((rows,), most), 1))

    def _compacted(self, input_ids: Tensor, kept_BT: Tensor) -> tuple[Tensor, Tensor]:
        found = compact(input_ids, kept_BT, self.stacks.config.pad_token_id)
        check_fits(self._positions[0], found[0].shape[1], "prompts", "the encoder")
        return found

    @functools.cached_property
    def _positions(self) -> tuple[int | None, int | None]:
        """How many tokens the encoder and the decoder can read; None: any number."""
        return table_limit(self.stacks.get_encoder()), table_limit(self.stacks.get_decoder())


def share_embedding(stacks: Any) -> None:
    """Have encoder and decoder embed by one module, where each has its own for one weight, which FSDP cannot shard."""
    shared = stacks.get_input_embeddings()
    for stack in (stacks.get_encoder(), stacks.get_decoder()):
        own = stack.get_input_embeddings()
        if type(own) is type(shared) and own.weight is shared.weight:
            stack.set_input_embeddings(shared)


def compact(values_BT: Tensor, kept_BT: Tensor, fill: int) -> tuple[Tensor, Tensor]:
    """The kept values of each row from its first column on, and a mask of them, int64; the rest is `fill`."""
    length = max(int(kept_BT.sum(1).max()), 1)
    order_BT = torch.argsort(kept_BT.int(), dim=1, descending=True, stable=True)[:, :length]
    mask = kept_BT.gather(1, order_BT)
    return values_BT.gather(1, order_BT).masked_fill(~mask, fill), mask.long()


def _real(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    return torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
