"""What this toolkit saves."""

from __future__ import annotations

from mllm.errors import ModelError
from mllm.models.adapters.injection import SETTINGS, base_of
from mllm.models.auto import read_config
from mllm.models.checkpoints.layout import BaseModels, Checkpoint, ModelPlan
from mllm.models.checkpoints.lazy import Weights
from mllm.models.flamingo.model import MllmFlamingoConfig
from mllm.models.llava.model import MllmLlavaConfig
from mllm.models.prompt_format import stored_prompt_format
from mllm.registry import LAYOUTS

MODEL_TYPES = (MllmLlavaConfig.model_type, MllmFlamingoConfig.model_type)


@LAYOUTS.register_module("mllm")
class Own:
    about = "a whole model that this toolkit saved"
    source = "transformers' save_pretrained"

    def fits(self, opened: Checkpoint) -> bool:
        return opened.model_type in MODEL_TYPES and SETTINGS not in opened.names

    def named(self, opened: Checkpoint) -> Weights:
        return opened.weights

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        return {}

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        sources.refuse(opened, "base", "vision_tower", "tuning_config")
        config = read_config(opened.path)
        said = stored_prompt_format(opened.path)
        kind = said.pop("type", "llava" if opened.model_type == MllmLlavaConfig.model_type else "openflamingo")
        return ModelPlan(config=config, weights=opened.weights, kind=kind, prompt_format=said, folders=(opened.path,))


@LAYOUTS.register_module("mllm-adapter")
class OwnAdapters:
    about = "adapters, or fully trained parts, saved by mllm without their base"
    source = "mllm.models.adapters.injection"

    def fits(self, opened: Checkpoint) -> bool:
        return SETTINGS in opened.names

    def named(self, opened: Checkpoint) -> Weights:
        return {name.removeprefix("base_model.model."): lazy for name, lazy in opened.weights.items()}

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        found = base_of(opened.path)
        assert found is not None, "fits has seen its settings"
        return {"the rest": ", ".join(f"{name} {_named(value)}" for name, value in found[0].items() if _named(value))}

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        raise ModelError(
            f"run mllm checkpoint merge {opened.path} OUT_DIR",
            where=opened.path,
            expected="a whole model",
            found="adapters",
        )


def _named(value: object) -> str:
    """Names and paths among the arguments of a model."""
    several = [str(each) for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
    return ",".join(several)
