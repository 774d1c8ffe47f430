"""The models of a server: from folders, or in front of other servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from mllm.conversation.codec_base import phrase_marks
from mllm.errors import ConfigError, RunError
from mllm.models.language_models import context_of
from mllm.models.prompt_format import chosen_prompt_format
from mllm.pipeline.run_checks import typed
from mllm.serve.api.backend import EngineModel, MllmModel, client
from mllm.serve.api.served import LocalModel, ServedModel
from mllm.serve.api.server import Settings
from mllm.serve.chat_model import ChatModel, load
from mllm.serve.engine import Engine

PAUSE_S = 1.0
"""Until a backend that is not there yet is asked again."""
PATIENCE_S = 600.0
"""That a backend may take to load."""


def load_models(settings: Settings) -> dict[str, ServedModel]:
    """
    Raises:
        ModelError: a folder holds no model; names it.
        ConfigError: there is no such device, or a backend whose convention nobody says.
        RunError: a backend does not answer.
    """
    if settings.backends:
        return _behind(settings)
    limits, models = settings.limits, dict[str, ServedModel]()
    for name, folder in settings.models.items():
        loaded = load(folder, device=settings.device, **settings.model_args)
        engine = Engine(
            loaded.model,
            loaded.processor,
            loaded.device,
            max_rows=limits.max_rows,
            max_waiting=limits.max_waiting,
            max_tokens=limits.max_batch_tokens,
            prefix_cache_bytes=int(limits.prefix_cache_gb * 1e9),
        )
        card = card_of(loaded, folder, settings.model_args)
        models[name] = LocalModel(name, loaded.processor, engine, card, context=context_of(loaded.model.text_model))
    return models


def card_of(loaded: ChatModel, folder: str, model_args: Mapping[str, object]) -> dict[str, Any]:
    """What people want to know of a loaded model: how it is spoken to, and how large it is."""
    known = typed({**model_args, "model_name_or_path": folder})
    spoken = chosen_prompt_format(known)
    return {
        "type": known["type"],
        "codec": spoken.codec,
        "template": spoken.template,
        "placement": spoken.placement,
        "phrase_marks": list(phrase_marks(loaded.processor.codec) or ()),
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "dtype": str(next(loaded.model.parameters()).dtype).removeprefix("torch."),
        "device": str(loaded.device),
    }


def _behind(settings: Settings) -> dict[str, ServedModel]:
    urls, timeout = settings.backends, settings.limits.timeout_s
    known = [asyncio.run(_models_at(url)) for url in urls]
    names = list(settings.models) or [name for name in known[0] if all(name in others for others in known)]
    models: dict[str, ServedModel] = {}
    for name in names:
        for url, found in zip(urls, known, strict=True):
            if name not in found:
                raise ConfigError(where=url, expected=f"one of {', '.join(found)}", found=f"the model {name!r}")
        cards = [found[name] for found in known]
        if all(card is not None for card in cards):
            if settings.codec is not None:
                raise ConfigError(where="--codec", expected="nothing: this backend knows its own", found=settings.codec)
            models[name] = MllmModel(name, urls, dict(cards[0] or {}), timeout=timeout)
        elif settings.codec is None:
            raise ConfigError(where="--codec", expected=f"how {name} at {urls[0]} writes boxes", found="nothing")
        else:
            models[name] = EngineModel(name, urls, codec=settings.codec, placement=settings.placement, timeout=timeout)
    return models


async def _models_at(url: str) -> dict[str, Mapping[str, object] | None]:
    """The models of a backend, once it is ready; what mllm says of each, None of other servers' models."""
    from openai import APIConnectionError, APIStatusError, OpenAIError

    asking, end = client(url, timeout=10), time.monotonic() + PATIENCE_S
    while True:
        try:
            found = [model async for model in asking.models.list()]
            return {model.id: getattr(model, "mllm", None) for model in found}
        except OpenAIError as error:
            loading = isinstance(error, APIStatusError) and error.status_code == 503
            if not (loading or isinstance(error, APIConnectionError)) or time.monotonic() > end:
                raise RunError(where=url, message=f"the backend does not answer: {str(error)[:300]}") from error
        await asyncio.sleep(PAUSE_S)
