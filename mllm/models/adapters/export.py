"""LoRA that was trained here, as a folder that PEFT loads onto transformers' LLaVA."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from mllm.errors import ModelError, listing
from mllm.files import read_json
from mllm.model_files import ADAPTER_CONFIG
from mllm.models.adapters.injection import IN_FULL, LOW_RANK, PREFIX, base_of
from mllm.models.auto import read_config
from mllm.models.checkpoints.finite import finite
from mllm.models.checkpoints.lazy import held, open_file
from mllm.models.checkpoints.vocabulary import tokens_of
from mllm.models.language_models import layers_name
from mllm.models.llava.model import MllmLlavaConfig

PROJECTOR = "model.multi_modal_projector"
SECOND = f"{PROJECTOR}.linear_2"


def export_adapter(folder: str, out: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, under the names of transformers' LLaVA.

    A projector that was trained in full becomes one of PEFT's modules_to_save.

    Raises:
        ModelError: no low-rank adapters of a LLaVA there, or something else was trained in full.
    """
    stored = base_of(folder)
    if stored is None or not (Path(folder) / LOW_RANK).is_file():
        raise ModelError(
            "choose another --format for a whole model", where=str(folder), expected="low-rank adapters", found="none"
        )
    config = read_config(folder)
    if config.model_type != MllmLlavaConfig.model_type:
        raise ModelError(
            where=str(folder), expected="adapters of a LLaVA, for transformers", found=f"those of a {config.model_type}"
        )
    prefix = layers_name(config.text_config)
    in_full = {their_name(name, prefix): lazy for name, lazy in open_file(Path(folder) / IN_FULL).items()}
    other = sorted(name for name in in_full if not name.startswith(f"{PROJECTOR}."))
    base = stored[0].get("model_name_or_path")
    new = [token for token in tokens_of(folder) if token not in tokens_of(base)]
    if new:
        raise ModelError(
            "an adapter cannot hold their embeddings; export it merged instead",
            where=str(folder),
            expected="no tokens beside those of the base",
            found=", ".join(new),
        )
    if other:
        raise ModelError(
            f"fully trained parts, which an adapter cannot hold; export it merged instead: {listing(other)}",
            where=folder,
        )
    low_rank = {
        PREFIX + their_name(name.removeprefix(PREFIX), prefix): lazy
        for name, lazy in open_file(Path(folder) / LOW_RANK).items()
    }
    settings = read_json(Path(folder) / ADAPTER_CONFIG, dict, ModelError)
    settings["target_modules"] = sorted(their_name(name, prefix) for name in settings["target_modules"])
    settings["base_model_name_or_path"] = base
    settings["modules_to_save"] = [PROJECTOR.rpartition(".")[2]] if in_full else None
    if in_full and f"{SECOND}.weight" not in in_full:  # one linear layer, and an identity behind it
        width = in_full[f"{PROJECTOR}.linear_1.weight"].shape[0]
        in_full[f"{SECOND}.weight"] = held(torch.eye(width), "an identity")
        in_full[f"{SECOND}.bias"] = held(torch.zeros(width), "an identity")
    tensors = {**low_rank, **{PREFIX + name: lazy for name, lazy in in_full.items()}}
    save_file(
        {name: lazy.read().contiguous().clone() for name, lazy in finite(tensors).items()},
        out / LOW_RANK,
        {"format": "pt"},
    )
    (out / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def their_name(name: str, prefix: str) -> str:
    """A layer or weight of our LLaVA as transformers' calls it; `prefix`: of the language model's class."""
    for ours, theirs in (
        (f"language_model.{prefix}.", "model.language_model."),
        ("language_model.", ""),
        ("vision_tower.encoder.", "model.vision_tower."),
        ("connector.layer.", f"{PROJECTOR}.linear_1."),
        ("connector.layers.0.", f"{PROJECTOR}.linear_1."),
        ("connector.layers.2.", f"{PROJECTOR}.linear_2."),
    ):
        if f"{name}.".startswith(ours):
            return f"{theirs}{name}.".replace(ours, "", 1).removesuffix(".")
    return name
