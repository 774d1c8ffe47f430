"""Low-rank adapters in checkpoints: PEFT's names for them, and their sum with the layers they stand beside.

Hu et al. 2021, LoRA. Names and scaling: github.com/huggingface/peft, src/peft/tuners/lora.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mllm.errors import ModelError, listing
from mllm.fields import Positive, show
from mllm.files import read_json
from mllm.json_fields import field
from mllm.model_files import ADAPTER_CONFIG
from mllm.models.checkpoints.lazy import Lazy, Weights, add_low_rank

T = TypeVar("T")

MATRIX = re.compile(r"\.lora_(A|B)\.weight$")
_RENAMED = (
    (re.compile(r"(^|\.)base_model\.model\."), r"\1"),
    (re.compile(r"\.base_layer\."), "."),
    (re.compile(r"\.modules_to_save\.[^.]+\."), "."),
    (re.compile(r"\.(lora_(?:A|B|magnitude_vector|embedding_A|embedding_B))\.default\b"), r".\1"),
)
_PLAIN = {
    "use_dora": (False, None),
    "bias": ("none", None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None,),
}
"""Settings of PEFT that change what is added, with the values at which they do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What a product of low-rank matrices is multiplied by: alpha / r, or of rsLoRA alpha / sqrt(r)."""

    alpha: float
    rank_stabilised: bool = False
    transposed: bool = False
    """The layers' weights are [in, out] (`fan_in_fan_out`)."""

    def of(self, rank: int) -> float:
        return self.alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def read_scaling(folder: Path) -> Scaling:
    """The scaling that an adapter_config.json states.

    Raises:
        ModelError: no such file, adapters of another kind, or settings that this cannot merge.
    """
    path = folder / ADAPTER_CONFIG
    found = read_json(path, dict, ModelError)
    if found.get("peft_type") != "LORA":
        raise ModelError(where=str(path), field="peft_type", expected="'LORA'", found=show(found.get("peft_type")))
    for name, values in _PLAIN.items():
        if found.get(name) not in values:
            raise ModelError(where=str(path), field=name, expected=repr(values[0]), found=show(found[name]))
    return Scaling(
        alpha=field(found, "lora_alpha", Positive, where=path, error=ModelError),
        rank_stabilised=bool(found.get("use_rslora")),
        transposed=bool(found.get("fan_in_fan_out")),
    )


def plain_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Without what PEFT puts into the names of the layers that it wraps: `base_model.model.`, `.base_layer.`."""
    found: dict[str, T] = {}
    for name, value in weights.items():
        if ".original_module." in name:
            continue  # what modules_to_save stands in for
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        found[name] = value
    return found


def matrices(names: Iterable[str]) -> set[str]:
    return {name for name in names if MATRIX.search(name)}


def merge_matrices(weights: Weights, scaling: Scaling) -> Weights:
    """The weights with each pair of low-rank matrices added to its layer.

    Raises:
        ModelError: lists matrices without their partner, without a layer, or that do not fit it.
    """
    pairs: dict[str, dict[str, Lazy]] = {}
    for name in sorted(matrices(weights)):
        layer, half = MATRIX.sub("", name), name.removesuffix(".weight")[-1]
        pairs.setdefault(layer, {})[half] = weights[name]
    found = {name: lazy for name, lazy in weights.items() if not MATRIX.search(name)}
    wrong: list[str] = []
    for layer, pair in pairs.items():
        base = found.get(f"{layer}.weight")
        if len(pair) < 2 or base is None:
            lacking = "its layer" if base is None else f"lora_{'AB'['A' in pair]}"
            wrong.append(f"{layer}: lora_{', lora_'.join(pair)} without {lacking}")
            continue
        a, b = pair["A"], pair["B"]
        fits = (b.shape[0], a.shape[1]) == (base.shape[::-1] if scaling.transposed else base.shape)
        if not fits or a.shape[0] != b.shape[1]:
            wrong.append(f"{layer}: {list(b.shape)} @ {list(a.shape)} beside {list(base.shape)}")
            continue
        scale = scaling.of(a.shape[0])
        found[f"{layer}.weight"] = add_low_rank(base, a, b, scale=scale, transposed=scaling.transposed)
    if wrong:
        raise ModelError(
            listing(wrong), expected="adapters that match the base model", found=f"{len(wrong)} that do not"
        )
    return found
