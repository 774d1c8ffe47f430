"""A checkpoint of any known layout -> a folder of ours: checked by names and shapes first, then written in one pass."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from mllm.errors import ModelError
from mllm.model_files import GENERATION
from mllm.models.auto import read_config, read_generation_config
from mllm.models.checkpoints.layout import BaseModels, Checkpoint, ModelPlan, detect
from mllm.models.checkpoints.lazy import Weights, grown, open_folder
from mllm.models.checkpoints.readback import hashed
from mllm.models.checkpoints.vocabulary import record_tokens, restore_added_tokens
from mllm.models.checkpoints.writing import write_shards
from mllm.models.components import finalise_generation_config
from mllm.models.flamingo.builder import NAMED_TOKENS
from mllm.models.flamingo.model import MllmFlamingoConfig
from mllm.models.outline import Skeleton
from mllm.models.prompt_format import record_prompt_format
from mllm.tokenizer_files import find_tokenizer, token_id
from mllm.tokenizer_saving import save_tokenizer
from mllm.types import IMAGE


def convert(
    opened: Checkpoint,
    folder: Path,
    sources: BaseModels,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = "5GB",
) -> PreTrainedTokenizerBase | None:
    """Write the whole model to `folder`, which exists and is empty; the tokenizer that it got, if there was one.

    `dtype` is of all floating-point tensors; None: each keeps its own.

    Raises:
        ModelError: no known layout, something is lacking, or tensors do not fit, which are all listed.
    """
    _, layout = detect(opened)
    plan = layout.plan(opened, sources)
    weights, taken, ever = restore_added_tokens(plan.weights, plan.config, opened.folder)
    if plan.config.base_rows is None:
        plan.config.base_rows = plan.base_rows or plan.config.text_config.vocab_size
    skeleton = Skeleton(plan.config)
    skeleton.check(weights, opened.path)
    if skeleton.differing(weights):
        # the config ties what the file holds two of
        plan.config.text_config.tie_word_embeddings = False
        skeleton = Skeleton(plan.config)
    weights = {name: lazy for name, lazy in weights.items() if name not in skeleton.tied}
    tokenizer = _tokenizer(plan, sources, opened)
    if tokenizer is not None:
        record_tokens(plan.config, ever)
        weights = _with_vocabulary(weights, plan, taken, tokenizer, skeleton)
    own = dtype or weights[skeleton.tables[0]].dtype
    for config in (plan.config, plan.config.text_config, plan.config.vision_config):
        config.dtype = own
    plan.config.architectures = [skeleton.kind]
    write_shards(weights, folder, max_shard_size=max_shard_size, dtype=dtype)
    plan.config.save_pretrained(folder)
    _read_back(weights, folder, dtype)
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)
    record_prompt_format(folder, plan.kind, plan.prompt_format)
    _write_generation(plan, folder, tokenizer)
    return tokenizer


def _read_back(weights: Weights, folder: Path, dtype: torch.dtype | None) -> None:
    """Compare what was written with what was to be written, one tensor at a time, and both with the config's model.

    Raises:
        ModelError: they differ.
    """
    found = open_folder(folder)
    Skeleton(read_config(folder)).check(found, str(folder))
    for name, lazy in weights.items():
        tensor = lazy.read()
        expected = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        if hashed(found[name].read()) != hashed(expected):
            raise ModelError(f"{name} differs when it is read back; the output was deleted")


def _tokenizer(plan: ModelPlan, sources: BaseModels, opened: Checkpoint) -> PreTrainedTokenizerBase | None:
    if sources.tokenizer is not None:
        tokenizer = find_tokenizer(sources.tokenizer)
        if tokenizer is None:
            raise ModelError(
                where="--tokenizer",
                expected="a folder with a tokenizer",
                found=f"{sources.tokenizer}, which holds none",
            )
        return tokenizer
    found = (find_tokenizer(folder) for folder in (str(opened.folder), *plan.folders))
    return next((tokenizer for tokenizer in found if tokenizer is not None), None)


def _with_vocabulary(
    weights: Weights, plan: ModelPlan, taken: dict[str, int], tokenizer: PreTrainedTokenizerBase, skeleton: Skeleton
) -> Weights:
    """Add the tokens that the checkpoint has beyond its tokenizer's folder, and `<image>`; new rows are means."""
    config: Any = plan.config
    tokens = [token for token in (*plan.tokens, *taken) if token_id(tokenizer, token) is None]
    tokenizer.add_tokens(tokens, special_tokens=True)
    moved = [token for token, number in taken.items() if tokenizer.convert_tokens_to_ids(token) != number]
    if moved:
        raise ModelError(
            where="tokenizer",
            expected="the one that was cut",
            found=f"one with other ids for {', '.join(moved[:3])} ...",
        )
    if plan.vocabulary is not None and len(tokenizer) != plan.vocabulary + len(taken):
        raise ModelError(
            "name the tokenizer of its training with --tokenizer",
            where="tokenizer",
            expected=f"{plan.vocabulary} tokens, as the checkpoint has embeddings of",
            found=f"{len(tokenizer)} with {', '.join(tokens) or 'none added'}",
        )
    image = [IMAGE] if token_id(tokenizer, IMAGE) is None else []
    tokenizer.add_tokens(image, special_tokens=True)
    record_tokens(config, [*tokens, *image])
    config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE)
    if config.model_type == MllmFlamingoConfig.model_type:
        named = {number for token in NAMED_TOKENS if (number := token_id(tokenizer, token)) is not None}
        config.new_token_ids = sorted({*config.new_token_ids, *named})
    if len(tokenizer) <= config.text_config.vocab_size:
        return weights
    config.text_config.vocab_size = len(tokenizer)
    tables = {name: grown(weights[name], len(tokenizer)) for name in skeleton.tables if name in weights}
    return {**weights, **tables}


def _write_generation(plan: ModelPlan, folder: Path, tokenizer: PreTrainedTokenizerBase | None) -> None:
    source = next((path for name in plan.folders if (path := Path(name) / GENERATION).is_file()), None)
    if source is None:
        return
    if tokenizer is None:
        shutil.copyfile(source, folder / GENERATION)
        return
    config = read_generation_config(source.parent)
    assert config is not None, "an existing file"
    finalise_generation_config(config, tokenizer)
    config.save_pretrained(folder)
