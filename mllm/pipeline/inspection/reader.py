"""The processor of a config, or one that stands in for it where its model is not at hand."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from mllm.conversation.processor import Processor
from mllm.conversation.scratch import blank_tokenizer
from mllm.dataset.mixing import Subset
from mllm.errors import DataError, ModelError
from mllm.models.adaptation import base_of
from mllm.models.speech import Speech
from mllm.pipeline.builder import SPEECH, TOKENIZER_SAMPLE, build_model, chosen_speech, over_base
from mllm.pipeline.encoded import ItemDataset
from mllm.registry import REGIONS, TEMPLATES
from mllm.tokenizer_files import load_tokenizer
from mllm.types import IMAGE
from mllm.views import SquareView

FOLDERS = ("model_name_or_path", "vision_tower", "language_model", "tokenizer", "checkpoint")
"""Keys of model_args that may name a folder."""
TRAINED = ("adapters", "quantization", "freeze", "checkpoint")
"""Keys of model_args that say nothing of how data are read."""
STAND_IN_SIDE, STAND_IN_TOKENS = 336, 576
"""Of CLIP ViT-L/14 at 336 pixels, the encoder of LLaVA-1.5: Liu et al. 2023."""


def make_processor(model_args: Mapping[str, Any], data: Mapping[str, Any], train: ItemDataset | None) -> Processor:
    """What training would read its items by; of a model's folder its config and tokenizer are read, and no weights.

    `train`: read where a tokenizer is to be trained on it; items that cannot be read are left out.

    Raises:
        ModelError: a folder that the config names is not there; says which.
    """
    for key, folder in _folders(model_args):
        if not Path(folder).exists():
            raise ModelError(
                f"model_args.{key}: {folder}: no such folder; --stand-in reads the data without it: "
                f"bytes for tokens, pictures of {STAND_IN_SIDE} x {STAND_IN_SIDE} pixels"
            )
    read = {name: value for name, value in _base(model_args).items() if name not in TRAINED}
    folder = model_args.get("model_name_or_path")
    build_log = logging.getLogger("mllm.pipeline.builder")
    level = build_log.level
    build_log.setLevel(logging.ERROR)
    try:
        with torch.device("meta"):
            return build_model(
                read,
                data,
                None if train is None else _readable(train),
                tokenizer=load_tokenizer(folder) if folder else None,
            )[0]
    finally:
        build_log.setLevel(level)


def _base(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The model_args of the base, where a folder holds adapters, spoken to as the folder says."""
    folder = model_args.get("model_name_or_path")
    stored = base_of(folder) if folder else None
    if stored is None:
        return dict(model_args)
    speech = chosen_speech(model_args)
    return {**over_base(stored[0], model_args), **{name: getattr(speech, name) for name in SPEECH}}


def _folders(model_args: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys of model_args, and the folders or files that they name."""
    found: list[tuple[str, str]] = []
    for key in FOLDERS:
        named = model_args.get(key)
        several = named if isinstance(named, Sequence) and not isinstance(named, str) else [named]
        found += [(key, folder) for folder in several if isinstance(folder, str)]
    return found


def make_stand_in(model_args: Mapping[str, Any], data: Mapping[str, Any]) -> Processor:
    """The config's codec and template, with a token for each byte and a square view of pictures."""
    speech = _asked(model_args)
    codec, template = REGIONS.make(speech.codec), TEMPLATES.make(speech.template)
    tokenizer = blank_tokenizer()
    tokenizer.add_tokens(
        [*dict.fromkeys((IMAGE, *template.tokens, *speech.tokens, *codec.tokens))], special_tokens=True
    )
    view = SquareView(
        size=STAND_IN_SIDE,
        mean=tuple(OPENAI_CLIP_MEAN),
        std=tuple(OPENAI_CLIP_STD),
        tokens=STAND_IN_TOKENS,
        placement=speech.placement or "pad",
    )
    return Processor(tokenizer=tokenizer, template=template, codec=codec, view=view, max_length=data.get("max_length"))


def _asked(model_args: Mapping[str, Any]) -> Speech:
    """How the model is spoken to, as far as it is known without its folder."""
    try:
        if "type" in model_args:
            return chosen_speech(model_args)
    except ModelError:
        pass  # the type asks its folder, which is not there
    return Speech(**{name: model_args[name] for name in SPEECH if model_args.get(name) is not None})


def _readable(train: ItemDataset) -> ItemDataset:
    """The items that a tokenizer would be trained on, without those that cannot be read."""
    sound: list[int] = []
    train.set_epoch(0)
    for index in range(0, len(train), max(1, len(train) // TOKENIZER_SAMPLE)):
        try:
            train[index]
        except DataError:
            continue
        sound.append(index)
    if not sound:
        raise DataError("data_args.train: no item can be read, and a tokenizer is to be trained on them")
    return Subset(dataset=train, indices=sound)
