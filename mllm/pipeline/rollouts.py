"""Rollouts: several sampled answers of each prompt, with one reading of each image and one of each question.

An answer follows from (seed, epoch, index, round, number of the answer) alone: whatever is decoded beside it, on
whichever rank, it is the same. In float32 on a CPU these are the answers that each prompt gets by itself.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator

from mllm.conversation.collator import Collator
from mllm.conversation.detokenizer import words_of
from mllm.conversation.processor import Processor
from mllm.models.base import VisionLanguageModel
from mllm.models.runtime.decoding import ContinuousBatcher
from mllm.models.vision.kept_features import KEYS, knowing
from mllm.pipeline.evaluate import in_step, stop_arguments
from mllm.pipeline.ranks import largest
from mllm.pipeline.train_data import to_device
from mllm.types import EncodedSample

logger = logging.getLogger(__name__)

MARKS_OF_IMAGES = ("image_token", "video_token", "vision_start_token", "vision_end_token")
"""What a model's config calls tokens that stand for images or stand around them, `_id` or `_index` behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSampling:
    """How answers are drawn; names as in TRL's `GRPOConfig`.

    Attributes:
        num_generations: answers of each prompt.
        temperature: what logits are divided by.
        top_p: draw among the likeliest tokens that make up this probability.
        top_k: draw among so many of the likeliest tokens; 0: among all.
        max_completion_length: tokens of an answer, at most, its end included.
        generation_kwargs: more arguments of transformers' `generate`.
    """

    num_generations: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_completion_length: int = 256
    generation_kwargs: Mapping[str, object] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledCompletion:
    """A sampled answer."""

    ids: tuple[int, ...]
    """Its tokens, those of its end included; none where the prompt fills the language model's table of positions."""
    ended: bool
    """Whether it came to its end; else it was cut off."""


def sample_answers(
    model: VisionLanguageModel,
    processor: Processor,
    entries: Sequence[Sequence[EncodedSample]],
    accelerator: Accelerator,
    *,
    sampling: RolloutSampling,
    seed: int,
    epoch: int,
    share: bool = True,
) -> list[list[SampledCompletion]]:
    """Answers of the prompts, `num_generations` of each, in the order of `itertools.chain(*entries)`.

    Where the model can, the prompts about the same images are read behind one reading of these, and each prompt is read
    once for all of its answers. Other models read every prompt for each answer, which is slower and as right. All
    answers are decoded at once; a row leaves with its answer's end. Tokens that stand for images are never drawn.

    Args:
        model: not wrapped; its mode is kept, and nothing is dropped out meanwhile.
        entries: the rounds of each item, each a prompt as `Processor.encode(item, index, answer=False)` gives it.
        share: False reads every prompt for each answer, in any model.

    Raises:
        ModelError: the model's scores are not finite, or transformers lacks what decoding needs.
    """
    prompts = [prompt for entry in entries for prompt in entry]
    seeds = [
        f"{seed} {epoch} {prompt.index} {number} {answer}"
        for entry in entries
        for number, prompt in enumerate(entry)
        for answer in range(sampling.num_generations)
    ]
    synced = in_step(accelerator)
    shared = share and _shares(model, prompts, synced=synced)
    batcher = ContinuousBatcher(seed=seed, evict_finished=model.supports_prefix_sharing, synced=synced)
    arguments = _arguments(model, processor, sampling)
    answers: dict[int, list[int]] = {}
    with torch.no_grad(), _evaluating(model), accelerator.autocast():
        for groups in _batches(model, prompts, sampling.num_generations, shared=shared):
            batch = _collated(processor, [[prompts[number] for number in group] for group in groups], shared=shared)
            rows = _rows(groups, sampling.num_generations)
            given = {**to_device(batch, accelerator.device), **arguments}
            with knowing(model, given.pop(KEYS, None)):
                batcher.generate(model, rows, given, shared=shared, seeds=[seeds[row] for row in rows])
        batcher.finish()
        answers = batcher.pop_finished()
    ends = stop_arguments(processor)["eos_token_id"]
    return [
        [
            _completion(processor, answers[row][: _room(processor, prompt)], ends)
            for row in _rows([[number]], sampling.num_generations)
        ]
        for number, prompt in enumerate(prompts)
    ]


def _room(processor: Processor, prompt: EncodedSample) -> int | None:
    """Tokens that the language model can read behind a prompt; None: any number. It can say one more, not learn it."""
    return None if processor.positions is None else processor.positions - len(prompt.input_ids)


def _shares(model: VisionLanguageModel, prompts: Sequence[EncodedSample], *, synced: bool) -> bool:
    """Whether all prompts begin behind readings of their images, on all ranks where these go in step."""
    if obstacle := model.sharing_obstacle:
        _say(f"every prompt is read for each of its answers: {obstacle}")
        return False
    whole = any(prompt.images_end == len(prompt.input_ids) for prompt in prompts)  # nothing follows the image
    return not (largest([int(whole)])[0] if synced else whole)


@functools.cache
def _say(reason: str) -> None:
    logger.info("%s", reason)


def _batches(
    model: VisionLanguageModel, prompts: Sequence[EncodedSample], answers: int, *, shared: bool
) -> Iterator[list[list[int]]]:
    """Numbers of the prompts in batches, by groups that begin alike; where nothing is shared, one of each answer."""
    if shared:
        groups: dict[Hashable, list[int]] = {}
        for number, prompt in enumerate(prompts):
            beginning = tuple(prompt.input_ids[: prompt.images_end].tolist())
            groups.setdefault((prompt.images, beginning) if prompt.images else number, []).append(number)
        yield list(groups.values())
        return
    rows = [[[number]] * answers for number in range(len(prompts))]
    if model.padding_obstacle is None:
        yield [group for prompt in rows for group in prompt]
    else:
        yield from rows


def _rows(groups: Sequence[Sequence[int]], answers: int) -> list[int]:
    """A number for each answer of these prompts."""
    numbers = list(dict.fromkeys(number for group in groups for number in group))
    return [number * answers + answer for number in numbers for answer in range(answers)]


def _collated(processor: Processor, groups: Sequence[Sequence[EncodedSample]], *, shared: bool) -> dict[str, Any]:
    tokenizer: Any = processor.tokenizer
    batch: dict[str, Any] = dict(
        Collator(pad_token_id=tokenizer.pad_token_id, packing="shared" if shared else "none")(groups)
    )
    del batch["index"]
    batch.pop("skipped", None)
    return batch


def _arguments(model: VisionLanguageModel, processor: Processor, sampling: RolloutSampling) -> dict[str, Any]:
    """Of `generate`; what a model's own generation config would do to the scores is left out."""
    ends = stop_arguments(processor)
    return {
        **ends,
        "suppress_tokens": never_answers(model, processor),
        "do_sample": True,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "top_k": sampling.top_k,
        "max_new_tokens": sampling.max_completion_length,
        **sampling.generation_kwargs,
    }


def never_answers(model: VisionLanguageModel, processor: Processor) -> list[int]:
    """Tokens that no answer may hold: those of images, which a model would look for pixels of, and padding."""
    tokenizer: Any = processor.tokenizer
    ends = stop_arguments(processor)["eos_token_id"]
    marks = [getattr(model.config, f"{name}_{end}", None) for name in MARKS_OF_IMAGES for end in ("id", "index")]
    found = {processor.image_token_id, tokenizer.pad_token_id, *marks} - {None, *ends}
    return sorted(found)


def _completion(processor: Processor, ids: Sequence[int], ends: Sequence[int]) -> SampledCompletion:
    ended = bool(ids) and ids[-1] in ends
    if not ended and processor.end_token_id is None:
        ended = processor.stop in words_of(processor.tokenizer, list(ids))
    return SampledCompletion(ids=tuple(ids), ended=ended)


@contextmanager
def _evaluating(model: VisionLanguageModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
