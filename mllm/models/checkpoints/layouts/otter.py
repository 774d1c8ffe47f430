"""Folders of Otter: a whole model, language model and CLIP included, in one file or in shards."""

from __future__ import annotations

from pathlib import Path

from mllm.models.checkpoints.layout import BaseModels, Checkpoint, ModelPlan
from mllm.models.checkpoints.lazy import Weights
from mllm.models.components import image_statistics
from mllm.models.flamingo.checkpoints import to_our_names
from mllm.models.flamingo.model import MllmFlamingoConfig
from mllm.models.flamingo.otter import MODEL_TYPES, TOKENS, part_config
from mllm.registry import LAYOUTS


@LAYOUTS.register_module("otter")
class Otter:
    about = "an Otter, or an OpenFlamingo in its layout"
    source = "github.com/Luodian/Otter, src/otter_ai/models/otter; otter_ai 0.0.0a8"

    def fits(self, opened: Checkpoint) -> bool:
        return opened.model_type in MODEL_TYPES

    def named(self, opened: Checkpoint) -> Weights:
        return to_our_names(opened.weights)

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        return {}

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        sources.refuse(opened, "base", "vision_tower", "tuning_config")
        path = Path(opened.path) / "config.json"
        text, vision = (part_config(path, opened.config, key) for key in ("text_config", "vision_config"))
        frames = opened.config.get("max_num_frames")
        mean, std = image_statistics(opened.path, vision)
        weights = self.named(opened)
        embeddings = next(
            (t for name, t in weights.items() if name.endswith((".embed_tokens.weight", ".wte.weight"))), None
        )
        if embeddings is not None:
            text.vocab_size = embeddings.shape[0]
        config = MllmFlamingoConfig(
            vision_config=vision,
            text_config=text,
            cross_attn_every_n_layers=opened.config.get("cross_attn_every_n_layers", 4),
            perceiver={} if frames is None else {"max_frames": frames},
            image_mean=mean,
            image_std=std,
        )
        tokens = ("<image>", *TOKENS)
        return ModelPlan(config=config, weights=weights, kind="otter", folders=(opened.path,), tokens=tokens)
