"""Every connector with every family of encoders and language models: builds, learns, is saved, reloads, answers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mllm.errors import ConfigError
from mllm.registry import CONNECTORS
from tests.marks import grid
from tests.models.learning import learns_is_saved_and_answers
from tests.models.tiny import PINPOINTS, TEXT, VISION, gradients, make, make_batch

SPECS: list[dict[str, Any]] = [
    {"type": "linear"},
    {"type": "mlp", "layers": 3},
    {"type": "mlp2x_gelu"},
    {"type": "concat", "r": 2},
    {"type": "concat", "r": 2, "neighbours": "row", "layers": 1},
    {"type": "ldp"},
    {"type": "perceiver", "latents": 3, "depth": 1, "heads": 2, "head_width": 4},
    {"type": "perceiver", "latents": 3, "heads": 2, "head_width": 4, "kv_heads": 1, "latents_in_keys": False},
    {"type": "identity"},
]
TILINGS: list[dict[str, Any]] = [
    {"type": "any_resolution", "pinpoints": PINPOINTS, "unpad": True, "newline": True},
    {"type": "any_resolution", "pinpoints": PINPOINTS, "unpad": False, "newline": False, "aspect": "squash"},
    {"type": "crops", "rows": 1, "columns": 2},
]


def test_no_connector_is_left_out() -> None:
    own = {name for name in CONNECTORS.names() if CONNECTORS.find(name).__module__.startswith("mllm.")}
    assert own == {spec["type"] for spec in SPECS}


TEXTS = ("llama", "qwen2", "gpt_neox", "gemma2")
TOWERS = ("clip", "siglip", "dinov2")


def mixes(specs: list[dict[str, Any]]) -> list[Any]:
    """Each with every tower and every language model."""
    return grid(TOWERS, TEXTS, specs)


def name(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(value)
    return "-".join(map(str, value.values())) if isinstance(value, dict) else value


EDGES = [
    *((vision, "llama") for vision in ("convnext", "swin", "siglip2")),
    *(("resnet", "qwen3_next"), ("clip", "qwen3_next"), ("siglip", "mamba2")),
]
"""Towers of maps and of patches, language models with a state."""


@pytest.mark.parametrize(("vision", "text", "spec"), mixes(SPECS), ids=name)
def test_every_mix(tmp_path: Path, vision, text, spec) -> None:
    learns_is_saved_and_answers(tmp_path, make(vision, text, connector=spec))


@pytest.mark.parametrize(("mix", "spec"), grid(EDGES, SPECS[::3]), ids=name)
def test_some_mixes_at_the_edges(tmp_path: Path, mix, spec) -> None:
    vision, text = mix
    learns_is_saved_and_answers(tmp_path, make(vision, text, connector=spec))


@pytest.mark.slow
@pytest.mark.parametrize("text", [text for text in TEXT if text not in ("qwen2", "gpt_neox", "gemma2")])
@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_every_mix_at_the_edges(tmp_path: Path, vision, text, spec) -> None:
    learns_is_saved_and_answers(tmp_path, make(vision, text, connector=spec))


@pytest.mark.parametrize(
    ("vision", "text", "tiling"),
    [*mixes(TILINGS), ("convnext", "mamba2", TILINGS[0]), ("siglip2", "qwen3_next", TILINGS[2])],
    ids=name,
)
def test_every_mix_in_tiles(tmp_path: Path, vision, text, tiling) -> None:
    learns_is_saved_and_answers(tmp_path, make(vision, text, tiling=tiling, connector="linear"))


@pytest.mark.parametrize(("spec", "tiling"), grid(SPECS, TILINGS), ids=name)
def test_every_connector_in_tiles(tmp_path: Path, spec, tiling) -> None:
    rows = tiling.get("newline") or tiling.get("unpad")
    if rows and not getattr(make(connector=spec).connector, "grid", False):
        with pytest.raises(
            ConfigError, match=f"expected a connector that keeps features in rows, .* found '{spec['type']}'"
        ):
            make(connector=spec, tiling=tiling)
        return
    learns_is_saved_and_answers(tmp_path, make(connector=spec, tiling=tiling))


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_half_precision_and_images_of_another_size(spec) -> None:
    arguments = {"connector": spec, "image_size": 16, "dtype": "bfloat16"}
    if spec["type"] != "identity":
        arguments["vision_tower"] = [VISION["clip"], VISION["siglip"]]
    model = make("clip", "llama", **arguments).train()
    model(**make_batch(model)).loss.backward()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())
