"""The processor of a config: what training would read its items by."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mllm.commands.data.stand_in import SIDE
from mllm.conversation.processor import Processor
from mllm.dataset.mixing import Subset
from mllm.errors import DataError, ModelError
from mllm.models.adapters.injection import base_of
from mllm.models.prompt_format import PROMPT_FORMAT_KEYS, chosen_prompt_format
from mllm.pipeline.build import TOKENIZER_SAMPLE, build_model, over_base
from mllm.pipeline.train_data import ItemDataset
from mllm.tokenizer_files import load_tokenizer

FOLDER_KEYS = ("model_name_or_path", "vision_tower", "language_model", "tokenizer", "checkpoint")
"""Keys of model_args that may name a folder."""
TRAINED = ("adapters", "quantization", "freeze", "checkpoint")
"""Keys of model_args that say nothing of how data are read."""


def make_processor(model_args: Mapping[str, Any], data: Mapping[str, Any], train: ItemDataset | None) -> Processor:
    """What training would read its items by; of a model's folder its config and tokenizer are read, and no weights.

    `train`: read where a tokenizer is to be trained on it; items that cannot be read are left out.

    Raises:
        ModelError: a folder that the config names is not there; says which.
    """
    for key, folder in _folders(model_args):
        if not Path(folder).exists():
            raise ModelError(
                f"use --stand-in to read the data without it: bytes for tokens, images of {SIDE} x {SIDE} pixels",
                where=f"model_args.{key}",
                expected="the folder of a model",
                found=f"{folder}, which does not exist",
            )
    read = {name: value for name, value in _base(model_args).items() if name not in TRAINED}
    folder = model_args.get("model_name_or_path")
    build_log = logging.getLogger("mllm.pipeline.build")
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
    prompt_format = chosen_prompt_format(model_args)
    return {**over_base(stored[0], model_args), **{name: getattr(prompt_format, name) for name in PROMPT_FORMAT_KEYS}}


def _folders(model_args: Mapping[str, object]) -> list[tuple[str, str]]:
    """Keys of model_args, and the folders or files that they name."""
    found: list[tuple[str, str]] = []
    for key in FOLDER_KEYS:
        named = model_args.get(key)
        several = named if isinstance(named, Sequence) and not isinstance(named, str) else [named]
        found += [(key, folder) for folder in several if isinstance(folder, str)]
    return found


def _readable(train: ItemDataset) -> ItemDataset:
    """The items that a tokenizer would be trained on, without those that cannot be read."""
    sound: list[int] = []
    first: DataError | None = None
    train.set_epoch(0)
    for index in range(0, len(train), max(1, len(train) // TOKENIZER_SAMPLE)):
        try:
            train[index]
        except DataError as error:
            first = first or error
            continue
        sound.append(index)
    if not sound:
        raise DataError(
            f"the first: {first}",
            where="data_args.train",
            expected="items to train the config's tokenizer on",
            found=f"{len(train)}, none of which can be read",
        ) from first
    return Subset(dataset=train, indices=sound)
