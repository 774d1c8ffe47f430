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
        mode = generation_config.get_generation_mode()
        penalties = [each for each in logits_processor if isinstance(each, RepetitionPenaltyLogitsProcessor)]
        if input_ids.shape[1] == 0:
            # transformers would spare as many new tokens as a prompt of embeddings has padding
            for penalty in penalties:
                penalty.prompt_ignore_length = None
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
        leaving = self.leaving and not any(isinstance(each, REMEMBERING) for each in logits_processor)
        padding = generation_config._pad_token_tensor
        answers: list[Tensor] = list(input_ids)
        rows, ids_RT = list(range(len(input_ids))), input_ids
        running = [True] * len(rows)
        outputs = model._prefill(input_ids, generation_config, arguments)
        with model._optimize_model_for_decode():
            while True:
                arguments = model._update_model_kwargs_for_generation(
                    outputs, arguments, is_encoder_decoder=model.config.is_encoder_decoder
                )
                if any(running):  # else other processes are at work
                    logits_RV = outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=ids_RT.device)
                    scores_RV = logits_processor(ids_RT, logits_RV)
                    sampled = mode == GenerationMode.SAMPLE
                    tokens_R = self._draw(scores_RV, rows) if sampled else scores_RV.argmax(-1)
                    running_R = torch.tensor(running, device=ids_RT.device)
                    if not all(running):
                        tokens_R = torch.where(running_R, tokens_R, padding.to(ids_RT.device))
                    ids_RT = torch.cat([ids_RT, tokens_R[:, None]], 1)
                    running = (running_R & ~stopping_criteria(ids_RT, None)).tolist()
                if not model._has_unfinished_sequences(not any(running), self.in_step, ids_RT.device):
                    break
                leaves = leaving and type(arguments.get("past_key_values")) is DynamicCache
                if leaves and any(running) and not all(running):
                    for place, row in enumerate(rows):
                        answers[row] = ids_RT[place]
                    places = closed_up(running)
                    rows, running = [rows[place] for place in places], [True] * len(places)
                    ids_RT, arguments = _selected(ids_RT, arguments, penalties, places)
                steps = 1 if arguments["use_cache"] else None
                inputs = model.prepare_inputs_for_generation(ids_RT, next_sequence_length=steps, **arguments)
                outputs = model(**inputs, return_dict=True)
        for place, row in enumerate(rows):
            answers[row] = ids_RT[place]
        return pad_sequence(answers, batch_first=True, padding_value=0 if padding is None else int(padding))

    def _draw(self, scores_RV: Tensor, rows: Sequence[int]) -> Tensor:
        """A token for each row: where the sum of probabilities first passes a number that its own source gives."""
        numbers = [self.sources[row].random() for row in rows]
        sums_RV = scores_RV.double().softmax(-1).cumsum(-1)
        sums_RV = sums_RV / sums_RV[:, -1:]  # exactly 1 from the last possible token on, and a number is less
        numbers_R1 = torch.tensor(numbers, dtype=torch.float64, device=scores_RV.device)[:, None]
        return torch.searchsorted(sums_RV, numbers_R1, right=True)[:, 0]


def beams(model: Any, generation_args: Mapping[str, Any]) -> int:
    """Rows that `generate` makes of each prompt."""
    return generation_args.get("num_beams") or model.generation_config.num_beams or 1


def closed_up(running: Sequence[bool]) -> list[int]:
    """The places of the rows that go on; the last fill the gaps, so that few of them change theirs."""
    kept = [place for place, runs in enumerate(running) if runs]
    from_behind = reversed(kept)
    return [place if running[place] else next(from_behind) for place in range(len(kept))]


def _selected(
    ids_RT: Tensor, arguments: dict[str, Any], penalties: Sequence[Any], places: Sequence[int]
) -> tuple[Tensor, dict[str, Any]]:
    index_R = torch.tensor(places, device=ids_RT.device)
    arguments["past_key_values"].batch_select_indices(index_R)
    for penalty in penalties:
        if isinstance(penalty.prompt_ignore_length, Tensor):
            penalty.prompt_ignore_length = penalty.prompt_ignore_length.to(ids_RT.device)[index_R]
    chosen = {name: arguments[name][..., index_R, :] for name in BY_ROW if isinstance(arguments.get(name), Tensor)}
    return ids_RT[index_R], {**arguments, **chosen}
