"""LoRA that was trained here, as a folder that PEFT loads onto the model of transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedConfig

from mllm.errors import ModelError, listing
from mllm.files import read_json
from mllm.model_files import ADAPTER_CONFIG
from mllm.models.adapters.injection import IN_FULL, LOW_RANK, PREFIX, base_of
from mllm.models.auto import read_config
from mllm.models.checkpoints.finite import finite
from mllm.models.checkpoints.lazy import Weights, held, open_file
from mllm.models.checkpoints.vocabulary import recorded_tokens
from mllm.models.language_models import layers_name
from mllm.models.text_only import INNER
from mllm.tokenizer_files import load_tokenizer

LAYER = re.compile(r"\.lora_(A|B|magnitude_vector)\b.*$")
EXPORTED_NAMES: dict[str, Callable[[str], str]] = {
    "hf": str,
    **dict.fromkeys(("causal_lm", "seq2seq"), lambda name: name.removeprefix(INNER)),
}
"""By type of model: a name of ours -> that of transformers' model."""
PROJECTOR = "model.multi_modal_projector"
SECOND_LINEAR = f"{PROJECTOR}.linear_2"


def export_adapter(folder: str, out: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, under the names of transformers' model.

    What was trained in full becomes modules_to_save of PEFT.

    Raises:
        ModelError: no low-rank adapters there, of a model that transformers has, or they need tokens that it lacks.
    """
    stored = base_of(folder)
    if stored is None or not (Path(folder) / LOW_RANK).is_file():
        raise ModelError(
            "choose another --format for a whole model", where=str(folder), expected="low-rank adapters", found="none"
        )
    base, kind = stored[0].get("model_name_or_path"), stored[0]["type"]
    if kind not in ("llava", *EXPORTED_NAMES) or base is None:
        found = f"those of a {kind}" if base else "those of a model that was made from parts"
        raise ModelError(where=str(folder), expected="adapters over a folder that transformers reads", found=found)
    _check_tokens(folder, base)
    low_rank = {name.removeprefix(PREFIX): lazy for name, lazy in open_file(Path(folder) / LOW_RANK).items()}
    in_full = dict(open_file(Path(folder) / IN_FULL))
    config = read_config(folder)
    rename = partial(their_name, prefix=layers_name(config.text_config)) if kind == "llava" else EXPORTED_NAMES[kind]
    low_rank = {rename(name): lazy for name, lazy in low_rank.items()}
    in_full = {rename(name): lazy for name, lazy in in_full.items()}
    in_full, modules = _projector(folder, in_full) if kind == "llava" else _modules(folder, in_full, low_rank, config)
    settings = read_json(Path(folder) / ADAPTER_CONFIG, dict, ModelError)
    settings["target_modules"] = sorted(rename(name) for name in settings["target_modules"])
    settings["base_model_name_or_path"] = base
    settings["modules_to_save"] = modules or None
    tensors = {PREFIX + name: lazy for name, lazy in {**low_rank, **in_full}.items()}
    save_file(
        {name: lazy.read().contiguous().clone() for name, lazy in finite(tensors).items()},
        out / LOW_RANK,
        {"format": "pt"},
    )
    (out / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def refused_by_vllm(folder: Path) -> str | None:
    """Why vLLM does not load a folder of PEFT; None: it does.

    Source: `vllm/lora/peft_helper.py` of vLLM 0.11.
    """
    settings = read_json(folder / ADAPTER_CONFIG, dict, ModelError)
    if settings.get("modules_to_save"):
        return f"modules_to_save ({', '.join(settings['modules_to_save'])})"
    return "DoRA" if settings.get("use_dora") else None


def _check_tokens(folder: str, base: str) -> None:
    """
    Raises:
        ModelError: the model has rows of tokens that its base has not.
    """
    rows = read_config(base).get_text_config().vocab_size
    new = [token for token in recorded_tokens(folder) if token not in recorded_tokens(base)]
    if not new and read_config(folder).get_text_config().vocab_size > rows:
        words: Any = load_tokenizer(folder)
        new = words.convert_ids_to_tokens(range(rows, len(words)))
    if new:
        raise ModelError(
            "an adapter cannot hold their embeddings; export it merged instead",
            where=str(folder),
            expected="no tokens beside those of the base",
            found=listing(new),
        )


def _projector(folder: str, in_full: Weights) -> tuple[Weights, list[str]]:
    """Of a LLaVA the weights that were trained in full, and the module that they make."""
    if other := sorted(name for name in in_full if not name.startswith(f"{PROJECTOR}.")):
        raise ModelError(
            f"fully trained parts, which an adapter cannot hold; export it merged instead: {listing(other)}",
            where=folder,
        )
    found = dict(in_full)
    if found and f"{SECOND_LINEAR}.weight" not in found:  # one linear layer, and an identity behind it
        width = found[f"{PROJECTOR}.linear_1.weight"].shape[0]
        found[f"{SECOND_LINEAR}.weight"] = held(torch.eye(width), "an identity")
        found[f"{SECOND_LINEAR}.bias"] = held(torch.zeros(width), "an identity")
    return found, [PROJECTOR.rpartition(".")[2]] if found else []


def _modules(folder: str, in_full: Weights, low_rank: Weights, config: PreTrainedConfig) -> tuple[Weights, list[str]]:
    """The weights that were trained in full, and the modules that hold them.

    Raises:
        ModelError: a weight lies beside modules that are adapted, or saved, themselves.
    """
    found = dict(in_full)
    table = next((name for name in found if name.endswith("embed_tokens.weight")), None)
    if table and config.get_text_config().tie_word_embeddings:
        found["lm_head.weight"] = found[table]  # PEFT unties what it saves
    modules = sorted({name.rpartition(".")[0] for name in found})
    taken = {*modules, *(LAYER.sub("", name) for name in low_rank)}
    for module in modules:
        if any(name.startswith(f"{module}.") for name in taken):
            raise ModelError(
                f"a parameter of {module} beside its layers was trained in full, which an adapter cannot hold; "
                "merge it instead: mllm checkpoint merge",
                where=folder,
            )
    return found, modules


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
