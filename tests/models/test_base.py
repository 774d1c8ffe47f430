"""Every model keeps the contract: statically, where it is handed out as a VisionLanguageModel, and when it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mllm.errors import ConfigError, ModelError
from mllm.models.base import VisionLanguageModel
from mllm.models.parts import part_of
from tests.models import tiny, tiny_flamingo, tiny_hf, tiny_seq2seq

MEMBERS = {name for name in {*vars(VisionLanguageModel), *VisionLanguageModel.__annotations__} if name[0] != "_"}


def model_of(kind: str, folder: Path) -> VisionLanguageModel:
    if kind == "llava":
        return tiny.make()
    if kind == "flamingo":
        return tiny_flamingo.make()
    if kind == "seq2seq":
        return tiny_seq2seq.make()
    return tiny_hf.build(str(tiny_hf.save_tiny("qwen2_vl", folder)))[0]


@pytest.mark.parametrize("kind", ["llava", "flamingo", "seq2seq", "native"])
def test_models_keep_the_contract(kind: str, tmp_path: Path) -> None:
    model = model_of(kind, tmp_path / "model")
    assert {"generate", "freeze", "image_preprocessor", "supports_prefix_sharing"} < MEMBERS
    assert [name for name in sorted(MEMBERS) if not hasattr(model, name)] == []
    assert model.supports_prefix_sharing == (model.sharing_obstacle is None)
    assert {part_of(name) for name, _ in model.named_parameters()} <= {*model.part_names.values(), "rest"}


@pytest.mark.parametrize("kind", ["flamingo", "seq2seq"])
def test_a_model_that_does_not_share_says_so(kind: str, tmp_path: Path) -> None:
    model = model_of(kind, tmp_path / "model")
    ids = torch.tensor([[5, 6]])
    assert not model.supports_prefix_sharing
    with pytest.raises(ModelError, match="prompts cannot share one reading of their beginning"):
        model.generate_with_shared_prefix(ids, torch.ones_like(ids), ids, torch.ones_like(ids), torch.tensor([0]))


@pytest.mark.parametrize("kind", ["llava", "flamingo", "seq2seq", "native"])
def test_freeze_leaves_the_other_parts_to_train(kind: str, tmp_path: Path) -> None:
    model = model_of(kind, tmp_path / "model")
    for name, part in model.part_names.items():
        model.freeze([name])
        model.train()
        trained = {part_of(each) for each, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == {part_of(each) for each, _ in model.named_parameters()} - {part}
        assert not any(module.training for each, module in model.named_modules() if part_of(each) == part)
        assert all(module.training for each, module in model.named_modules() if part_of(each) in trained)
    with pytest.raises(ConfigError, match="freeze: expected a part of the model, found str 'vision_towr'"):
        model.freeze(["vision_towr"])
    with pytest.raises(ConfigError, match="freeze: expected a list of parts, found str 'language_model'"):
        model.freeze("language_model")


def test_parts_without_a_trained_parameter_drop_nothing_out() -> None:
    model = tiny.make()
    model.requires_grad_(False)
    model.connector.requires_grad_(True)
    model.train()
    model.freeze_untrained()
    assert model.frozen == ("vision_tower", "language_model")
    assert model.connector.training
    assert not model.language_model.training


def test_only_a_frozen_language_model_keeps_checkpointed_layers_on() -> None:
    """Gradients pass through it, and transformers' layers recompute only where they believe they are trained."""
    model = tiny.make()
    model.gradient_checkpointing_enable()
    model.freeze(["vision_tower", "language_model"])
    model.train()
    training = {part_of(name) for name, module in model.named_modules() if module.training}
    assert training - {"rest"} == {"connector", "language_model"}
    assert not model.language_model.model.norm.training
    assert model.language_model.model.layers[0].training
    assert isinstance(model.language_model, torch.nn.Module)
