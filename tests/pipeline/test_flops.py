"""Model FLOPs beside those that PyTorch counts operation by operation, on tiny models of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mllm.conversation.collator import Collator
from mllm.conversation.packing import split_rounds
from mllm.pipeline.build import build_model
from mllm.pipeline.flops import ModelFlops, known_peak
from mllm.pipeline.monitor import BatchCounts, CountingCollator
from mllm.registry import DATASETS
from mllm.types import EncodedSample
from tests.marks import grid
from tests.models.tiny_hf import ask, save_tiny
from tests.models.tiny_hf import build as build_hf
from tests.pipeline.tiny import CONFIG, SCENES, STAND_INS

TOWER = {**CONFIG["model_args"]["vision_tower"], "num_hidden_layers": 3, "image_size": 64}
TEXT = {**CONFIG["model_args"]["language_model"], "num_key_value_heads": 1, "head_dim": 16}
LORA = dict(type="lora", targets=["language_model"], r=2, unfrozen=["connector"])
LLAVAS: dict[str, dict[str, Any]] = {
    "all trained": {},
    "unused layers": dict(feature_layer=-3),
    "frozen tower": dict(freeze=["vision_tower"]),
    "connector alone": dict(freeze=["vision_tower", "language_model"]),
    "lora": dict(adapters=LORA),
    "gpt2": dict(language_model=dict(model_type="gpt2", n_embd=16, n_layer=2, n_head=2)),
    "two towers": dict(vision_tower=[TOWER, TOWER], feature_layer=[[-1], [-2]]),
}
FLAMINGO: dict[str, Any] = dict(
    type="openflamingo",
    perceiver=dict(depth=1, latents=3, heads=2, head_width=4),
    cross_attn_every_n_layers=2,
    template="otter",
)


def batch_of(processor: Any, packing: Any, scenes: int = 3) -> tuple[dict[str, Any], BatchCounts]:
    items = DATASETS.make(dict(SCENES, count=scenes, objects=[4, 4], questions_per_scene=3))
    groups = [[processor.encode(each, n) for each in split_rounds(items[n])] for n in range(scenes)]
    return collated(processor, groups, packing)


def collated(
    processor: Any, groups: Sequence[Sequence[EncodedSample]], packing: Any
) -> tuple[dict[str, Any], BatchCounts]:
    batch = CountingCollator(Collator(pad_token_id=processor.tokenizer.pad_token_id, packing=packing))(groups)
    counts = batch.pop("counts")
    del batch["index"], batch["label_sources"]
    return batch, counts


def llava(**changes: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model_args = {**CONFIG["model_args"], "vision_tower": TOWER, "language_model": TEXT, **changes}
    processor, model = build_model(model_args, {}, DATASETS.make(dict(SCENES, count=3)))
    return processor, model.train()


def watched(model: Any, batch: dict[str, Any], counts: BatchCounts) -> ModelFlops:
    flops = ModelFlops(model)
    with flops.watching(counts.work, counts.rows):
        loss = model(**batch).loss
    loss.backward()
    return flops


def by_operation(model: Any, batch: dict[str, Any]) -> int:
    """What PyTorch counts; its fused attention on the CPU is not among what it knows."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    return counter.get_total_flops()


def agrees(model: Any, batch: dict[str, Any], counts: BatchCounts, *, uncounted: int = 0) -> None:
    flops = watched(model, batch, counts)
    assert flops.done
    assert counts.rows == counts.work.tokens, "PyTorch counts padding too"
    assert flops.cost * counts.work == pytest.approx(by_operation(model, batch) - uncounted, rel=0.02)


@pytest.mark.parametrize(("name", "packing"), grid([*LLAVAS], ["rows", "shared"]))
def test_flops_of_a_llava(name: str, packing: str) -> None:
    processor, model = llava(**LLAVAS[name])
    agrees(model, *batch_of(processor, packing))


@pytest.mark.parametrize("frozen", [[], ["vision_tower", "language_model"]])
def test_flops_of_a_flamingo_but_for_its_cross_attention(frozen: list[str]) -> None:
    args = {name: value for name, value in CONFIG["model_args"].items() if name not in ("connector", "feature_layer")}
    args |= {"vision_tower": TOWER, "language_model": {**TEXT, "num_hidden_layers": 4}, "freeze": frozen, **FLAMINGO}
    processor, model = build_model(args, {}, DATASETS.make(dict(SCENES, count=3)))
    for name, parameter in model.named_parameters():
        if name.endswith("_gate"):
            torch.nn.init.constant_(parameter, 0.8)
    batch, counts = batch_of(processor, "rows")
    keys = 3 * int((batch["input_ids"] == processor.image_token_id).sum())  # all latents, masked where not to be read
    blocks, width = 2, 8 * 64
    agrees(model.train(), batch, counts, uncounted=12 * blocks * width * keys * counts.rows)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "internvl", "idefics3", "paligemma"])
def test_flops_of_a_transformers_model(family: str, tmp_path: Path) -> None:
    model, processor = build_hf(str(save_tiny(family, tmp_path)))
    # of images of several sizes, but prompts of one length
    batch, counts = collated(processor, [[processor.encode(ask((96, 64)), 0)]], "none")
    agrees(model.train(), batch, counts)


def test_of_padded_rows_only_real_tokens_count() -> None:
    processor, model = llava()
    batch, counts = batch_of(processor, "none")
    rows, real = batch_of(processor, "rows")
    assert counts.rows > counts.work.tokens == real.work.tokens
    assert counts.work == real.work
    assert watched(model, batch, counts).cost * counts.work == pytest.approx(
        watched(model, rows, real).cost * real.work
    )


def test_the_cost_of_one_batch_is_that_of_others() -> None:
    processor, model = llava(adapters=LORA)
    cost = watched(model, *batch_of(processor, "shared")).cost
    batch, counts = batch_of(processor, "rows", scenes=2)
    assert cost * counts.work == pytest.approx(by_operation(model, batch), rel=0.02)


def test_checkpointing_does_not_add_to_what_the_model_needs() -> None:
    processor, model = llava(adapters=LORA)
    batch, counts = batch_of(processor, "rows")
    before = watched(model, batch, counts).cost
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    assert watched(model, batch, counts).cost * counts.work == pytest.approx(before * counts.work, rel=0.02)


def test_a_model_that_sees_is_watched_until_there_are_images() -> None:
    processor, model = llava()
    batch, counts = collated(processor, [[processor.encode(ask(), 0)]], "none")
    flops = watched(model, batch, counts)
    assert not flops.done
    assert flops.cost.pixels == 0 < flops.cost.tokens
    assert "pixels" not in str(flops.cost)


def test_an_encoder_decoder_model_is_not_watched() -> None:
    args = dict(type="seq2seq", tokenizer=dict(vocab_size=400), **STAND_INS["seq2seq"])
    _, model = build_model(args, {}, DATASETS.make(dict(SCENES, count=3)))
    assert ModelFlops(model).done
    assert str(ModelFlops(model).cost) == ""


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_a_devices_peak_is_known_by_its_name_or_not_at_all(name: str, peak: float | None) -> None:
    assert known_peak(name) == peak
