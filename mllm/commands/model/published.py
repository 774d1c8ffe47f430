"""Sizes of published models, so that `mllm model show` needs no download.

Each number is from the `config.json` that the model's authors published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Sizes = Mapping[str, Any]


def _clip_large(image_size: int) -> Sizes:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": image_size,
        "patch_size": 14,
    }


def _llama_7b(positions: int) -> Sizes:
    return {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": positions,
        "vocab_size": 32000,
    }


PUBLISHED_PARTS: Mapping[str, Sizes] = {
    "clip-vit-large-patch14": _clip_large(224),
    "clip-vit-large-patch14-336": _clip_large(336),
    "vicuna-7b-v1.3": _llama_7b(2048),
    "vicuna-7b-v1.5": _llama_7b(4096),
}
"""By the name of the folder: what stands in for `vision_tower` or `language_model`."""

PUBLISHED_MODELS: Mapping[str, Sizes] = {
    "llava-v1-7b": {
        "vision_tower": _clip_large(224),
        "language_model": _llama_7b(2048),
        "connector": "linear",
        "feature_layer": -2,
    },
}
"""By the name of the folder: the arguments that stand in for `model_name_or_path`."""


def with_published_sizes(model_args: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """`model_args` with published sizes in place of folders that are not there, and the paths that were replaced."""
    args = dict(model_args)
    replaced: list[str] = []
    for name, known in (
        ("model_name_or_path", PUBLISHED_MODELS),
        ("vision_tower", PUBLISHED_PARTS),
        ("language_model", PUBLISHED_PARTS),
    ):
        folder = args.get(name)
        if not isinstance(folder, str) or Path(folder).exists() or Path(folder).name not in known:
            continue
        replaced.append(folder)
        if known is PUBLISHED_MODELS:
            del args[name]
            args |= known[Path(folder).name]
        else:
            args[name] = known[Path(folder).name]
    return args, replaced
