"""Two processes, one with pictures and one without: training steps and generation neither hang nor differ."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mllm.models import loss
from tests.models import tiny_flamingo
from tests.models.ranks import Case, check_ranks
from tests.models.tiny import PINPOINTS, VISION, make, make_batch, prompts, without_pictures
from tests.models.tiny_hf import ask, batch_of, build, save_tiny

PERCEIVER = {"type": "perceiver", "latents": 3, "heads": 2, "head_width": 4}
MIXES: dict[str, dict[str, Any]] = {
    "one tower": {},
    "two towers and a perceiver": {
        "vision_tower": [VISION["clip"], VISION["siglip"]],
        "feature_layer": [[-1, -2], 0],
        "connector": PERCEIVER,
    },
    "tiles": {"tiling": {"type": "any_resolution", "pinpoints": PINPOINTS}},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("shard", [False, True], ids=["replicated", "sharded"]),
]


def llava(freeze: tuple[str, ...], mix: str) -> Case:
    model = make("siglip", freeze=freeze, **MIXES[mix])
    batches = [make_batch(model), without_pictures(make_batch(model, seed=3), model)]
    return model, batches, _asked(batches)


def in_pieces(case: Callable[[], Case]) -> Case:
    loss.LOGITS_AT_ONCE = 100  # one or two positions, in this process
    return case()


def flamingo(text: str) -> Case:
    model = tiny_flamingo.make(text)
    batches = [tiny_flamingo.make_batch(model), without_pictures(tiny_flamingo.make_batch(model), model)]
    return model, batches, _asked(batches)


def native(folder: str) -> Case:
    model, processor = build(folder)
    items = [ask((40, 20), key="a"), ask(key="b", question="Name an animal.")]
    batches = [batch_of(processor, [item]) for item in items]
    return model, batches, [batch_of(processor, [item], answer=False) for item in items]


def _asked(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [prompts(batches[0]), {name: value for name, value in batches[1].items() if name != "labels"}]


@pytest.mark.parametrize("kind", ["llava", "native"])
def test_a_head_that_runs_in_pieces(tmp_path: Path, kind: str, shard: bool) -> None:
    save_tiny("smolvlm", tmp_path)
    case = partial(native, str(tmp_path)) if kind == "native" else partial(llava, (), "one tower")
    check_ranks(tmp_path, partial(in_pieces, case), shard=shard)


@pytest.mark.parametrize("freeze", [(), ("vision_tower", "language_model")])
@pytest.mark.parametrize("mix", MIXES)
def test_llava(tmp_path: Path, mix: str, shard: bool, freeze: tuple[str, ...]) -> None:
    check_ranks(tmp_path, partial(llava, freeze, mix), shard=shard)


@pytest.mark.parametrize("text", ["llama", "mpt"])
def test_flamingo(tmp_path: Path, text: str, shard: bool) -> None:
    check_ranks(tmp_path, partial(flamingo, text), shard=shard, checkpointing=False)


@pytest.mark.parametrize("family", ["qwen3_vl", "smolvlm", "kosmos-2"])
def test_native(tmp_path: Path, family: str, shard: bool) -> None:
    save_tiny(family, tmp_path)
    check_ranks(tmp_path, partial(native, str(tmp_path)), shard=shard)
