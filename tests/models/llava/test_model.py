import pickle
from typing import Any

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.image_utils import IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from mllm.errors import ConfigError, ModelError
from mllm.types import IMAGE
from tests.marks import slow_but
from tests.models.tiny import PATCHES, SIDE, TEXT, VISION, gradients, make, make_batch, prompts, without_images


def trainable(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_shared_image_is_a_repeated_image() -> None:
    model = make()
    shared = make_batch(model)
    repeated = {**shared, "pixels": shared["pixels"][shared["image_index"]], "image_index": None}
    losses, grads = [], []
    for batch in (shared, repeated):
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss)
        grads.append(gradients(model))
        model.zero_grad()
    torch.testing.assert_close(*losses)
    assert grads[0].keys() == grads[1].keys() == trainable(model)
    for name, gradient in grads[0].items():
        torch.testing.assert_close(gradient, grads[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_features_stand_in_their_slots_in_reading_order() -> None:
    model = make()
    batch = make_batch(model)
    embeds = model.embed(batch["input_ids"], batch["pixels"], batch["image_index"])
    slots = batch["input_ids"] == model.config.image_token_id
    features = model.image_features(batch["pixels"])
    torch.testing.assert_close(embeds[slots], features[[0, 1, 0]].flatten(0, 1))
    words = model.get_input_embeddings()(batch["input_ids"])
    torch.testing.assert_close(embeds[~slots], words[~slots])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_index": torch.tensor([0, 1])}, "expected 8 <image> tokens in the text, for 2 slot"),
        ({"image_index": torch.tensor([0, 1, 1, 0])}, "expected 16 <image> tokens in the text, for 4 slot"),
        ({"image_index": None}, "expected 8 <image> tokens in the text, for"),
        ({"pixels": None, "image_index": None}, "expected 0 <image> tokens in the text, for"),
    ],
)
def test_slots_and_features_must_agree(change: dict[str, Any], message: str) -> None:
    model = make()
    with pytest.raises(ModelError, match=message):
        model(**{**make_batch(model), **change})


@pytest.mark.parametrize("vision", VISION)
def test_a_batch_without_images_touches_every_trainable_parameter(vision) -> None:
    model = make(vision=vision).train()
    batch = without_images(make_batch(model), model)
    loss = model(**batch).loss
    loss.backward()
    found = gradients(model)
    assert found.keys() == trainable(model)
    assert all(not g.any() for name, g in found.items() if not name.startswith("language_model"))
    torch.testing.assert_close(loss, model.eval()(**batch).loss)


def test_a_batch_without_images_runs_the_same_modules() -> None:
    model = make().train()
    calls: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    batch = make_batch(model)
    model(**batch)
    with_images = calls.copy()
    calls.clear()
    model(**without_images(batch, model))
    assert calls == with_images
    calls.clear()
    model.eval()(**without_images(batch, model))
    assert not any(name.startswith("vision_tower") for name in calls)


class NaNs(TorchDispatchMode):
    """Fails at the first operation that makes a NaN."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert not (isinstance(out, torch.Tensor) and out.is_floating_point() and out.isnan().any()), func
        return out


def test_the_image_without_weight_cannot_overflow() -> None:
    model = make(dtype="float16").train()
    with torch.no_grad():
        model.connector.layers[2].bias.fill_(6e4)  # sums to infinity in half precision
    ids = torch.tensor([[1, 5, 6]])
    with NaNs():
        embeds = model.embed(ids, None, None)
    torch.testing.assert_close(embeds, model.get_input_embeddings()(ids))


def test_frozen_parts_do_not_train() -> None:
    model = make(freeze=["vision_tower", "language_model"]).train()
    assert trainable(model) == {name for name, _ in model.named_parameters() if name.startswith("connector")}
    assert not model.vision_tower.encoder.training
    assert not model.language_model.training
    assert model.connector.training
    model(**make_batch(model)).loss.backward()
    assert gradients(model).keys() == trainable(model)
    model.freeze([])
    assert model.language_model.training
    assert "language_model.lm_head.weight" in trainable(model)
    assert "vision_tower.encoder.post_layernorm.weight" not in trainable(model), "no feature depends on it"


def test_unknown_parts_cannot_be_frozen() -> None:
    model = make()
    with pytest.raises(ConfigError, match="found str 'vision_towr'; did you mean 'vision_tower'"):
        model.freeze(["vision_towr"])
    with pytest.raises(ConfigError, match="expected a list of parts"):
        model.freeze("vision_tower")


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("freeze", [(), ("vision_tower",), ("vision_tower", "language_model")])
@pytest.mark.parametrize("text", ["llama", "gpt_neox"])
def test_gradient_checkpointing_changes_nothing(text: str, freeze, use_reentrant: bool) -> None:
    model = make(text=text, freeze=freeze).train()
    batch = make_batch(model)
    model(**batch).loss.backward()
    expected = gradients(model)
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    layers = [module for module in model.language_model.modules() if type(module).__name__ in model._no_split_modules]
    runs = []
    next(layers[0].children()).register_forward_pre_hook(lambda *_: runs.append(1))
    model.train()
    model(**batch).loss.backward()
    assert len(runs) == 2, "forward, and once more in the backward pass"
    found = gradients(model)
    assert found.keys() == expected.keys() == trainable(model)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    for module in layers:
        assert all(not child.training for child in module.children()) == ("language_model" in freeze)


def test_a_frozen_vision_tower_stays_out_of_the_backward_pass() -> None:
    model = make(freeze=["vision_tower"]).train()
    model.activation_checkpointing_enable()
    assert not model.vision_tower(torch.randn(1, 3, SIDE, SIDE)).requires_grad
    model.disable_input_require_grads()
    assert not model.language_model._require_grads_hooks


@pytest.mark.parametrize("text", slow_but(["llama", "gpt_neox", "mpt", "qwen3_next"], TEXT))
def test_greedy_generation_is_the_argmax_of_forward(text) -> None:
    model = make(text=text)
    inputs = prompts(make_batch(model))
    found = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=3)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    for _ in range(5):
        rows = [
            model(input_ids=row[kept.bool()][None], **images(model, row, inputs, number)).logits[0, -1]
            for number, (row, kept) in enumerate(zip(ids, mask, strict=True))
        ]
        ids = torch.cat([ids, torch.stack(rows).argmax(-1)[:, None]], 1)
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    assert found.tolist() == ids[:, inputs["input_ids"].shape[1] :].tolist()


def images(model, row, inputs, number) -> dict:
    """Of one row of the batch, which has slots [0, 1] and [2]."""
    return {"pixels": inputs["pixels"], "image_index": inputs["image_index"][[slice(0, 2), slice(2, 3)][number]]}


def test_beams_find_an_answer_at_least_as_likely() -> None:
    model = make()
    inputs = prompts(make_batch(model))
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 3}
    likely = []
    for beams in (1, 4):
        ids = model.generate(**inputs, num_beams=beams, **settings)
        assert ids.shape == (2, 4)
        whole = torch.cat([inputs["input_ids"], ids], 1)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 4), value=1)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        logits = model(**{**inputs, "input_ids": whole, "attention_mask": mask}, position_ids=position).logits
        scores = logits.log_softmax(-1)[:, -5:-1].gather(2, ids[:, :, None])
        likely.append(scores.sum((1, 2)))
    assert (likely[1] >= likely[0] - 1e-5).all()


def test_generation_without_images_and_without_mask() -> None:
    model = make()
    ids = torch.tensor([[1, 5, 6]])
    assert model.generate(ids, max_new_tokens=2, do_sample=False, eos_token_id=None).shape == (1, 2)


def test_special_tokens_of_generation_come_from_the_tokenizer() -> None:
    config = make().generation_config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 3)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("keep_cls", [False, True])
def test_describes_its_slots(vision, keep_cls: bool) -> None:
    model = make(vision=vision, keep_cls=keep_cls)
    view = pickle.loads(pickle.dumps(model.image_preprocessor()))  # noqa: S301, data loading workers receive it
    prefix = {"clip": 1, "dinov2": 1, "dinov2_with_registers": 5}.get(vision, 0)
    assert (view.token, view.size) == (IMAGE, SIDE)
    assert view.placeholder_tokens((40, 30)) == IMAGE * (PATCHES + prefix * keep_cls)
    assert view.tokens == model.image_features(torch.randn(1, 3, SIDE, SIDE)).shape[1]


def test_pixel_statistics_are_those_of_the_family() -> None:
    assert make("clip").image_preprocessor().mean == tuple(OPENAI_CLIP_MEAN)
    assert make("siglip").image_preprocessor().std == (0.5, 0.5, 0.5)
    assert make("dinov2").image_preprocessor().std == tuple(IMAGENET_DEFAULT_STD)


@pytest.mark.parametrize("text", ["llama", "gpt_neox", "mpt"])
@pytest.mark.parametrize("vision", [name for name in VISION if name not in ("convnext", "resnet")])  # no layers
def test_accelerate_finds_every_layer_to_shard(vision, text: str) -> None:
    model = make(vision=vision, text=text)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    policy = fsdp2_prepare_auto_wrap_policy(plugin, model)
    wrapped = {name.rpartition(".")[0] for name, module in model.named_modules() if policy(module)}
    lists = {
        name for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList) if len(module) > 1
    }
    assert {name for name in lists if "norm" not in name} <= wrapped


def test_the_trainer_counts_labels_as_the_loss_does() -> None:
    assert LOSS_MAPPING[make().loss_type] is ForCausalLMLoss  # by which it leaves out the first of each row
