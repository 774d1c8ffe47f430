"""The memory map against measured training steps of the same models."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from transformers import Trainer

from mllm.commands.model import memory
from mllm.errors import ConfigError
from mllm.models.adapters.injection import inject_adapters
from mllm.models.adapters.settings import read_adapters
from mllm.registry import MODELS
from tests.commands.model.arguments import args_of
from tests.marks import slow_but
from tests.models.tiny import TEXT, VISION, make_batch, make_tokenizer

PARTS = {"vision_tower": VISION["clip"], "language_model": TEXT["llama"]}
WIDE = {**TEXT["qwen2"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 5}
T5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
MODEL_ARGS: dict[str, dict[str, Any]] = {
    "llava": {"type": "llava", **PARTS},
    "wide": {"type": "llava", "vision_tower": VISION["siglip"], "language_model": WIDE, "freeze": ["vision_tower"]},
    "openflamingo": {"type": "openflamingo", **PARTS, "cross_attn_every_n_layers": 1},
    "seq2seq": {"type": "seq2seq", "language_model": T5},
}

FAST = [("llava", torch.bfloat16), ("openflamingo", None)]


def build(name: str, device: str) -> Any:
    with torch.device(device):
        return MODELS.make(MODEL_ARGS[name], tokenizer=make_tokenizer())


def batch_of(name: str) -> dict[str, torch.Tensor]:
    llava = build("llava", "cpu")
    batch = make_batch(llava)
    if name == "seq2seq":
        batch = {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}
    if name == "openflamingo":  # one token an image
        slots = batch["input_ids"] == llava.config.image_token_id
        extra = slots & slots.roll(1, 1)
        batch["input_ids"] = batch["input_ids"].masked_fill(extra, 5)
    return batch


@pytest.mark.parametrize(("name", "half"), slow_but(FAST, [*product(MODEL_ARGS, [None, torch.bfloat16])]))
def test_activations_are_those_of_a_real_forward_pass(name: str, half: torch.dtype | None) -> None:
    real, fake, batch = build(name, "cpu"), build(name, "meta"), batch_of(name)
    memory.make_fake(fake)
    measured = memory.saved_bytes(real, batch, autocast=half)
    estimated = memory.saved_bytes(fake, batch, autocast=half)
    assert estimated.total == pytest.approx(measured.total, rel=0.02)
    assert estimated.largest_layer == measured.largest_layer > 0
    with memory.checkpointed(real), memory.checkpointed(fake):
        less = [memory.saved_bytes(model, batch, autocast=half).total for model in (real, fake)]
    assert less[1] == pytest.approx(less[0], rel=0.02)
    assert less[0] < measured.total


@pytest.mark.parametrize("name", MODEL_ARGS)
def test_weights_and_gradients_are_counted_to_the_byte(name: str) -> None:
    real, skeleton = build(name, "cpu"), build(name, "meta")
    stored = {t.untyped_storage().data_ptr(): t.nbytes for t in (*real.parameters(), *real.buffers())}
    assert memory.weight_bytes(skeleton) == sum(stored.values())
    real.train()(**batch_of(name)).loss.backward()
    assert memory.gradient_bytes(skeleton) == sum(p.grad.nbytes for p in real.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "optim",
    slow_but(
        ("adamw_torch_fused", "adafactor"),
        ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "rmsprop", "adagrad"],
    ),
)
def test_optimizer_states_are_counted_to_the_byte(optim: str) -> None:
    real, skeleton = build("llava", "cpu"), build("llava", "meta")
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(args_of(optim=optim))
    trained = [parameter for parameter in real.parameters() if parameter.requires_grad]
    optimizer = kind(trained, **settings)
    real.train()(**batch_of("llava")).loss.backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    assert memory.optimizer_bytes(skeleton, args_of(optim=optim)) == sum(state.nbytes for state in states)


def test_eight_bit_states_take_a_quarter() -> None:
    pytest.importorskip("bitsandbytes")
    layer = torch.nn.Linear(1024, 1024, bias=False, device="meta")
    assert memory.optimizer_bytes(layer, args_of(optim="paged_adamw_32bit")) == 8 * 1024**2
    # of each state a byte a weight, a scale a block of 256, and one table of 256 values
    blocks = 1024**2 // 256
    assert memory.optimizer_bytes(layer, args_of(optim="adamw_bnb_8bit")) == 2 * (1024**2 + 4 * blocks + 4 * 256)
    embedding = torch.nn.Embedding(1024, 1024, device="meta")
    assert memory.optimizer_bytes(embedding, args_of(optim="adamw_bnb_8bit")) == 8 * 1024**2


def test_adapters_train_little_on_frozen_weights() -> None:
    skeleton = build("wide", "meta")
    before = memory.weight_bytes(skeleton)
    with torch.device("meta"):
        adapters = read_adapters({"type": "lora", "targets": ["q_proj$"], "r": 2, "unfrozen": ["connector"]})
        inject_adapters(skeleton, adapters, MODEL_ARGS["wide"])
    added = 4 * 5 * 2 * (64 + 64)  # float32; q_proj is 64 x 64 in each of 5 layers
    connector = sum(p.nbytes for p in skeleton.connector.parameters())
    assert memory.weight_bytes(skeleton) == before + added
    assert memory.gradient_bytes(skeleton) == added + connector
    count = len([p for p in skeleton.parameters() if p.requires_grad])
    assert memory.optimizer_bytes(skeleton, args_of()) == 2 * (added + connector) + 4 * count


def test_shards_are_rows_rounded_up() -> None:
    layer = torch.nn.Linear(8, 5, device="meta")
    assert memory.weight_bytes(layer, 2) == 4 * (3 * 8 + 3)
    assert memory.gradient_bytes(layer, 4) == 4 * (2 * 8 + 2)
    assert memory.optimizer_bytes(layer, args_of(), 2) == 2 * 4 * (3 * 8 + 3) + 2 * 4


def test_fsdp_gathers_what_is_outside_and_two_layers() -> None:
    skeleton = build("wide", "meta")
    layers = [sum(p.numel() for p in layer.parameters()) for layer in skeleton.language_model.model.layers]
    encoder = skeleton.vision_tower.encoder.encoder.layers
    inside = sum(layers) + sum(p.numel() for p in encoder.parameters())
    outside = sum(p.numel() for p in skeleton.parameters()) - inside
    assert memory.gathered_bytes(skeleton, None) == 4 * (outside + 2 * layers[0])
    assert memory.gathered_bytes(skeleton, torch.bfloat16) == 2 * (outside + 2 * layers[0])


def test_an_optimizer_that_is_not_known() -> None:
    with pytest.raises(
        ConfigError,
        match=r"training_args.optim: expected an optimizer whose memory can be estimated, found str 'galore_adamw'",
    ):
        memory.optimizer_bytes(build("llava", "meta"), args_of(optim="galore_adamw", optim_target_modules=["a"]))
