"""Files of OpenFlamingo (v1, v2, released or of training), and chains of them from Instruct-Flamingo.

They hold what was trained. Of a chain, later files overwrite earlier ones, before and after adapters alike: the names
that PEFT gives to wrapped layers are taken for those that the layers had, and all adapters are merged at the end.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from mllm.errors import ModelError
from mllm.models.adapters.low_rank import MATRIX, Scaling, matrices, merge_matrices
from mllm.models.adapters.settings import read_adapters
from mllm.models.checkpoints.layout import BaseModels, Checkpoint, ModelPlan
from mllm.models.checkpoints.lazy import Weights, grown, over
from mllm.models.checkpoints.weight_sources import (
    language_config,
    language_names,
    language_weights,
    vision_config,
    vision_weights,
)
from mllm.models.components import image_statistics
from mllm.models.flamingo.checkpoints import to_our_names
from mllm.models.flamingo.model import MllmFlamingoConfig
from mllm.models.flamingo.perceiver import PerceiverResampler
from mllm.models.outline import Skeleton
from mllm.registry import LAYOUTS
from mllm.tokenizer_files import find_tokenizer

TOKENS = ("<|endofchunk|>", "<image>")
PAD = "<PAD>"
BLOCK = re.compile(r"\.(\d+)\.gated_cross_attn_layer\.")
ENCODER, ENCODER_CONFIG = "--vision-tower", "--vision-tower, of which only the config is taken"
EMBEDDINGS = re.compile(r"\.(embed_tokens|wte|embed_in)\.weight$")


def perceiver_settings(weights: Weights) -> dict[str, object]:
    """What the perceiver's shapes say, where it is not what ours does by default."""
    found: dict[str, Any] = {}
    layers = [int(name.split(".")[2]) for name in weights if name.startswith("perceiver.layers.")]
    if layers:
        found["depth"] = max(layers) + 1
    for name, setting in (("latents", "latents"), ("frame_embs", "max_frames"), ("media_time_embs", "max_media")):
        if f"perceiver.{name}" in weights:
            found[setting] = weights[f"perceiver.{name}"].shape[0]
    defaults = inspect.signature(PerceiverResampler).parameters
    return {name: value for name, value in found.items() if value != defaults[name].default}


def every(weights: Weights, path: str) -> int:
    """Before every how many layers there is cross-attention.

    Raises:
        ModelError: there is none, or not in even steps.
    """
    layers = sorted({int(match[1]) + 1 for name in weights if (match := BLOCK.search(name))})
    if not layers or layers != list(range(layers[0], layers[-1] + 1, layers[0])):
        raise ModelError(
            where=path,
            expected="cross-attention before every n-th layer",
            found=f"before layers {', '.join(map(str, layers))}" if layers else "none",
        )
    return layers[0]


@LAYOUTS.register_module("openflamingo")
class OpenFlamingo:
    about = "weights that OpenFlamingo or Instruct-Flamingo trained, or several files of them as a.pt,b.pt"
    source = "github.com/mlfoundations/open_flamingo, open_flamingo/train/train_utils.py; open-flamingo 2.0.1"

    def fits(self, opened: Checkpoint) -> bool:
        return not opened.config and any(
            BLOCK.search(name) or "gated_cross_attn_layers" in name for name in opened.weights
        )

    def named(self, opened: Checkpoint) -> Weights:
        return {name: lazy for file in opened.files for name, lazy in to_our_names(file).items()}

    def absent(self, opened: Checkpoint) -> dict[str, str]:
        whole = _has_encoder(self.named(opened))
        return {
            "language_model": "--base, but for the embeddings",
            "vision_tower": ENCODER_CONFIG if whole else ENCODER,
        }

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        base = sources.need("base", opened, "a local folder of the language model")
        tower = sources.need("vision_tower", opened, "a local folder of the vision encoder, CLIP ViT-L/14")
        own = self.named(opened)
        text, encoder = language_config(base), vision_config(tower)
        old_rows = text.vocab_size
        under = language_weights(base, language_names(text))
        rows = _rows(own, opened.path)
        text.vocab_size = max(rows, old_rows)
        mean, std = image_statistics(tower, encoder)
        perceiver = perceiver_settings(own)
        config = MllmFlamingoConfig(
            vision_config=encoder,
            text_config=text,
            cross_attn_every_n_layers=every(own, opened.path),
            perceiver=perceiver,
            image_mean=mean,
            image_std=std,
        )
        skeleton = Skeleton(config)
        # layers with cross-attention lie one level deeper
        deeper = {name.replace(".decoder_layer.", "."): name for name in skeleton.shapes}
        under = {deeper.get(name, name): lazy for name, lazy in under.items()}
        own = {_deepened(name, deeper): lazy for name, lazy in own.items()}
        for name in skeleton.tables:
            if name in under and name in own and own[name].shape[0] < under[name].shape[0]:
                own[name] = over(own[name], under[name])
            if name in under and under[name].shape[0] < text.vocab_size:
                under[name] = grown(under[name], text.vocab_size)
        weights = {**under, **({} if _has_encoder(own) else vision_weights(tower)), **own}
        weights = _merged(weights, opened, sources)
        tokens = (*TOKENS, *_padding(sources.tokenizer, str(opened.folder), base))
        return ModelPlan(
            config=config,
            weights=weights,
            kind="openflamingo",
            folders=(base,),
            tokens=tokens,
            vocabulary=rows,
            base_rows=old_rows,
        )


def _rows(weights: Weights, path: str) -> int:
    """Tokens that the file has input embeddings of; those of new tokens are nowhere else."""
    found = [lazy.shape[0] for name, lazy in weights.items() if EMBEDDINGS.search(name)]
    if len(found) != 1:
        raise ModelError(
            where=path, expected="one table of input embeddings (embed_tokens, wte, embed_in)", found=str(len(found))
        )
    return found[0]


def _padding(*folders: str | None) -> tuple[str, ...]:
    """The token that OpenFlamingo adds to a tokenizer without one for padding."""
    found = (find_tokenizer(folder) for folder in folders if folder is not None)
    tokenizer = next((tokenizer for tokenizer in found if tokenizer is not None), None)
    return (PAD,) if tokenizer is not None and tokenizer.pad_token_id is None else ()


def _has_encoder(weights: Weights) -> bool:
    return any(name.startswith("vision_tower.") for name in weights)


def _deepened(name: str, deeper: dict[str, str]) -> str:
    """The name in our model, also of a matrix beside a layer."""
    if match := MATRIX.search(name):
        layer = name[: match.start()]
        return deeper.get(f"{layer}.weight", f"{layer}.weight").removesuffix(".weight") + name[match.start() :]
    return deeper.get(name, name)


def _merged(weights: Weights, opened: Checkpoint, sources: BaseModels) -> Weights:
    if not matrices(weights):
        if sources.tuning_config is not None:
            raise ModelError(
                "drop --tuning-config", where=opened.path, expected="adapters for --tuning-config", found="none"
            )
        return weights
    settings = sources.need("tuning_config", opened, "the json that says lora_alpha of the adapters in these files")
    adapters = read_adapters(settings)
    if adapters.type != "lora":
        raise ModelError(where=settings, field="peft_type", expected="'LORA'", found=repr(adapters.type.upper()))
    return merge_matrices(weights, Scaling(alpha=adapters.alpha))
