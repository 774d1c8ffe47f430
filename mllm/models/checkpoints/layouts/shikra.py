"""Folders of Shikra: a LLaVA v1 with one linear layer, released as a delta to LLaMA; CLIP is never in them."""

from __future__ import annotations

from dataclasses import replace

from mllm.models.checkpoints.layout import BaseModels, Checkpoint, ModelPlan
from mllm.models.checkpoints.layouts.llava_original import RULES, missing_parts, plan_whole
from mllm.models.checkpoints.lazy import Weights
from mllm.models.checkpoints.weight_sources import rename
from mllm.registry import LAYOUTS

PROMPT_FORMAT = {"codec": "shikra", "template": "vicuna_v1", "placement": "pad"}


@LAYOUTS.register_module("shikra")
class Shikra:
    about = "a Shikra, as a delta to a LLaMA or whole"
    source = "github.com/shikras/shikra, mllm/models/shikra/apply_delta.py, shikra.py"

    def fits(self, opened: Checkpoint) -> bool:
        return opened.model_type == "shikra"

    def named(self, opened: Checkpoint) -> Weights:
        return rename(opened.weights, RULES)

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        return missing_parts(opened)

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        return replace(plan_whole(opened, sources), prompt_format=PROMPT_FORMAT)
