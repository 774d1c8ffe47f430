"""Prompts are read: those about images that were read before begin behind them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from mllm.compat.transformers_generation import missing_steps
from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.models.base import VisionLanguageModel
from mllm.models.runtime.decoded_rows import Choose
from mllm.models.runtime.decoding import ContinuousBatcher, without_steps
from mllm.models.runtime.kv_cache import roomy_cache
from mllm.models.runtime.prefix_cache import Prefix, PrefixCache, PrefixRows
from mllm.pipeline.evaluate import stop_arguments
from mllm.pipeline.train_data import to_device
from mllm.serve.request import Request
from mllm.types import EncodedSample

PrefillWay = Literal["joined", "together", "alone"]


def way_of(model: VisionLanguageModel) -> tuple[PrefillWay, str | None]:
    """How requests to the model can be answered exactly, see `EngineStats`, and what keeps them from joining."""
    text = model.text_model
    if obstacle := model.padding_obstacle:
        return "alone", obstacle
    if getattr(model.config, "generated_image_resets", False):
        return "alone", "an <image> that one row writes changes what all rows see (generated_image_resets)"
    if obstacle := model.sharing_obstacle:
        return "together", obstacle
    if not roomy_cache(text, {}):
        return "together", "its cache holds more than keys and values of all tokens"
    return "joined", None


class Prefill:
    """Begins requests in a batcher.

    Raises:
        ModelError: transformers lacks what decoding needs.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        processor: Processor,
        device: torch.device,
        batcher: ContinuousBatcher,
        prefixes: PrefixCache,
    ) -> None:
        self.model = model
        self.device = device
        self.batcher = batcher
        self.prefixes = prefixes
        self.hits = self.reads = 0
        tokenizer: Any = processor.tokenizer
        ends = stop_arguments(processor)
        self.collator = Collator(pad_token_id=tokenizer.pad_token_id)
        self.settings = {
            "eos_token_id": ends["eos_token_id"],
            "pad_token_id": ends["pad_token_id"],
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": 1.0,
        }
        if missing := missing_steps():
            raise without_steps(missing)

    def begin(self, requests: Sequence[Request], choose: Choose, *, shared: bool) -> None:
        """Read prompts together, and give each its first token; `shared`: all have a `prefix_key`."""
        arguments = self._behind_prefixes(requests) if shared else self._whole(requests)
        most = max(request.room - len(request.new) for request in requests)
        items = [request.number for request in requests]
        arguments |= {**self.settings, "max_new_tokens": most}
        self.batcher.generate(self.model, items, arguments, shared=shared, choose=choose)

    def unread(self, request: Request) -> int:
        """Tokens that are still to be read."""
        known = request.prefix_key is not None and request.prefix_key in self.prefixes
        return len(request.ids_T) - (request.sample.images_end if known else 0)

    def _whole(self, requests: Sequence[Request]) -> dict[str, object]:
        return self._batch([replace(request.sample, input_ids=request.ids_T) for request in requests])

    def _behind_prefixes(self, requests: Sequence[Request]) -> dict[str, object]:
        found = self._found(requests)
        keys = [_key(request) for request in requests]
        beginnings = self._texts([request.sample.input_ids[: request.sample.images_end] for request in requests])
        rests = self._texts([request.ids_T[request.sample.images_end :] for request in requests])
        return {
            **beginnings,
            "suffix_ids": rests["input_ids"],
            "suffix_mask": rests["attention_mask"],
            "suffix_prefix": torch.arange(len(requests), device=self.device),
            "prefixes": PrefixRows.of(self.model.text_model, [found[key] for key in keys]),
        }

    def _found(self, requests: Sequence[Request]) -> dict[Hashable, Prefix]:
        """The prefixes of these; those that are not kept are read, each once."""
        found: dict[Hashable, Prefix] = {}
        missing: dict[Hashable, EncodedSample] = {}
        for request in requests:
            key = _key(request)
            kept = self.prefixes.get(key)
            if kept is not None:
                found[key] = kept
            if kept is not None or key in missing:
                self.hits += 1
            else:
                missing[key] = request.sample
        if missing:
            samples = [replace(each, input_ids=each.input_ids[: each.images_end]) for each in missing.values()]
            read = self.model.read_prefixes(**self._batch(samples))
            for row, (key, sample) in enumerate(missing.items()):
                found[key] = read.prefix(row, sample.images_end)
                self.prefixes.put(key, found[key])
            self.reads += len(missing)
        return found

    def _texts(self, rows: Sequence[Tensor]) -> dict[str, object]:
        bare = {"key": "", "index": 0, "labels": None, "images": (), "pixels": ()}
        return self._batch([EncodedSample(input_ids=row, **bare) for row in rows])

    def _batch(self, samples: Sequence[EncodedSample]) -> dict[str, Any]:
        batch: dict[str, Any] = dict(self.collator(samples))
        del batch["index"]
        return to_device(batch, self.device)


def _key(request: Request) -> Hashable:
    assert request.prefix_key is not None
    return request.prefix_key
