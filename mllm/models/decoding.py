"""Answers of a batch in which no row depends on the others: each draws for itself, and leaves when it has finished.

Shape suffixes: B rows of the batch, R rows still in it, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DynamicCache,
    RepetitionPenaltyLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.generation.configuration_utils import GenerationMode

from mllm.errors import ConfigError

BY_ROW = ("attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids")
"""Arguments of a step that hold a row of the batch in their last dimension but one."""
REMEMBERING = (SynthIDTextWatermarkLogitsProcessor, UnbatchedClassifierFreeGuidanceLogitsProcessor)
"""What keeps a state of its own for each row."""


class Decoding:
    """Decodes a batch in place of transformers' own loop: its `generate` takes one as `custom_generate`.

    Args:
        seed: of sampled answers: what a row draws follows from it and from the row's item alone.
        items: the item of each row.
        leaving: rows that have finished leave the batch and the cache, for a model that remembers nothing of a row
            outside of it.
        in_step: goes on until all processes have finished, as sharded models need.

    Raises:
        ConfigError: when called, for another way to decode than greedy search, sampling and beam search.
    """

    def __init__(self, *, seed: int, items: Sequence[int], leaving: bool = False, in_step: bool = False) -> None:
        self.sources = [random.Random(f"answer {seed} {item}") for item in items]
        self.leaving = leaving
        self.in_step = in_step

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        *,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **arguments: Any,
    ) -> Tensor:
        """The prompts with their answers, int64 [B, T]; a short one ends in padding."""
        if input_ids.shape[1] == 0:
            # transformers would spare as many new tokens as a prompt of embeddings has padding
            for penalty in _penalties(logits_processor):
                penalty.prompt_ignore_length = None
        mode = generation_config.get_generation_mode()
        if mode == GenerationMode.BEAM_SEARCH:
            return type(model)._beam_search(
                model,
                input_ids,
                logits_processor=logits_processor,
                stopping_criteria=stopping_criteria,
                generation_config=generation_config,
                synced_gpus=self.in_step,
                **arguments,
            )
        if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
            raise ConfigError(
                f"gen_kwargs and the model's generation_config.json ask for {mode.value}: items are answered by greedy "
                "search, by sampling (do_sample=True) or by beam search (num_beams=2 or more, do_sample=False)"
            )
        batch = _Batch(input_ids, generation_config._pad_token_tensor)
        leaving = self.leaving and not any(isinstance(each, REMEMBERING) for each in logits_processor)
        outputs = model._prefill(input_ids, generation_config, arguments)
        with model._optimize_model_for_decode():
            while True:
                arguments = model._update_model_kwargs_for_generation(
                    outputs, arguments, is_encoder_decoder=model.config.is_encoder_decoder
                )
                if any(batch.running):  # else other processes are at work
                    logits_RV = outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=input_ids.device)
                    scores_RV = logits_processor(batch.ids_RT, logits_RV)
                    sampled = mode == GenerationMode.SAMPLE
                    batch.add(self._draw(scores_RV, batch.rows) if sampled else scores_RV.argmax(-1), stopping_criteria)
                if not model._has_unfinished_sequences(not any(batch.running), self.in_step, input_ids.device):
                    return batch.answers()
                usual = type(arguments.get("past_key_values")) is DynamicCache
                if leaving and usual and any(batch.running) and not all(batch.running):
                    _keep(batch.close_up(), arguments, _penalties(logits_processor))
                steps = 1 if arguments["use_cache"] else None
                inputs = model.prepare_inputs_for_generation(batch.ids_RT, next_sequence_length=steps, **arguments)
                outputs = model(**inputs, return_dict=True)

    def _draw(self, scores_RV: Tensor, rows: Sequence[int]) -> Tensor:
        """A token for each row: where the sum of probabilities first passes a number that its own source gives."""
        numbers = [self.sources[row].random() for row in rows]
        sums_RV = scores_RV.double().softmax(-1).cumsum(-1)
        sums_RV = sums_RV / sums_RV[:, -1:]  # exactly 1 from the last possible token on, and a number is less
        numbers_R1 = torch.tensor(numbers, dtype=torch.float64, device=scores_RV.device)[:, None]
        return torch.searchsorted(sums_RV, numbers_R1, right=True)[:, 0]


class _Batch:
    """The rows that are still decoded, and the ids of all."""

    def __init__(self, ids_BT: Tensor, padding: Tensor | None) -> None:
        self.ids_RT = ids_BT
        self.rows = list(range(len(ids_BT)))
        self.running = [True] * len(ids_BT)
        self.padding = 0 if padding is None else int(padding)
        self.found: list[Tensor] = list(ids_BT)

    def add(self, tokens_R: Tensor, stopping_criteria: Any) -> None:
        running_R = torch.tensor(self.running, device=tokens_R.device)
        self.ids_RT = torch.cat([self.ids_RT, tokens_R.where(running_R, self.padding)[:, None]], 1)
        self.running = (running_R & ~stopping_criteria(self.ids_RT, None)).tolist()

    def close_up(self) -> Tensor:
        """Let the rows go that have finished; the places of those that stay, int64 [R]."""
        self._note()
        places = closed_up(self.running)
        index_R = torch.tensor(places, device=self.ids_RT.device)
        self.ids_RT = self.ids_RT[index_R]
        self.rows = [self.rows[place] for place in places]
        self.running = [True] * len(places)
        return index_R

    def answers(self) -> Tensor:
        self._note()
        return pad_sequence(self.found, batch_first=True, padding_value=self.padding)

    def _note(self) -> None:
        for row, ids_T in zip(self.rows, self.ids_RT, strict=True):
            self.found[row] = ids_T


def beams(model: Any, generation_args: Mapping[str, Any]) -> int:
    """Rows that `generate` makes of each prompt."""
    return generation_args.get("num_beams") or model.generation_config.num_beams or 1


def closed_up(running: Sequence[bool]) -> list[int]:
    """The places of the rows that go on; the last fill the gaps, so that few of them change theirs."""
    kept = [place for place, runs in enumerate(running) if runs]
    from_behind = reversed(kept)
    return [place if running[place] else next(from_behind) for place in range(len(kept))]


def _penalties(logits_processor: Any) -> list[RepetitionPenaltyLogitsProcessor]:
    return [each for each in logits_processor if isinstance(each, RepetitionPenaltyLogitsProcessor)]


def _keep(index_R: Tensor, arguments: dict[str, Any], penalties: Sequence[RepetitionPenaltyLogitsProcessor]) -> None:
    """Of the cache, and of all else that holds rows."""
    arguments["past_key_values"].batch_select_indices(index_R)
    for name in BY_ROW:
        if isinstance(arguments.get(name), Tensor):
            arguments[name] = arguments[name][..., index_R, :]
    for penalty in penalties:
        if isinstance(penalty.prompt_ignore_length, Tensor):
            penalty.prompt_ignore_length = penalty.prompt_ignore_length.to(index_R.device)[index_R]
