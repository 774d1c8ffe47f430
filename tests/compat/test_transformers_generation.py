"""`GenerationMixin._prefill`, `_update_model_kwargs_for_generation`, `_beam_search`, `_optimize_model_for_decode`."""

from __future__ import annotations

import inspect

import pytest
from transformers import GenerationMixin, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from mllm.compat import transformers_generation as compat


def test_missing_steps_is_empty_and_names_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compat.missing_steps() == []
    monkeypatch.setattr(compat, "PRIVATE_STEPS", (*compat.PRIVATE_STEPS, "_gone"))
    assert compat.missing_steps() == ["_gone"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("_prefill", ["input_ids", "generation_config", "model_kwargs"]),
        ("_update_model_kwargs_for_generation", ["outputs", "model_kwargs", "is_encoder_decoder"]),
        ("_beam_search", ["input_ids", "logits_processor", "stopping_criteria", "generation_config", "synced_gpus"]),
    ],
)
def test_steps_take_the_arguments_that_are_given(name: str, arguments: list[str]) -> None:
    taken = list(inspect.signature(getattr(GenerationMixin, name)).parameters)
    assert taken[1 : len(arguments) + 1] == arguments


def test_models_take_and_give_their_cache_under_its_name() -> None:
    assert compat.CACHE in inspect.signature(LlamaForCausalLM.forward).parameters
    assert compat.CACHE in CausalLMOutputWithPast.__dataclass_fields__


def test_generate_takes_custom_generate() -> None:
    assert "custom_generate" in inspect.signature(GenerationMixin.generate).parameters


def test_faster_steps_uses_transformers_own_where_there_is_one() -> None:
    class Model:
        entered = False

        def _optimize_model_for_decode(self) -> Model:
            return self

        def __enter__(self) -> None:
            self.entered = True

        def __exit__(self, *error: object) -> None: ...

    model = Model()
    with compat.faster_steps(model):
        assert model.entered
    with compat.faster_steps(object()):
        pass
    assert hasattr(GenerationMixin, "_optimize_model_for_decode")
