"""Tiny models written in the layouts of other software, by the rules of their names, not by our code for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mllm.models.llava.model import Llava
from tests.models.tiny import SIZES, WORDS

State = dict[str, Tensor]


def plain_tokenizer(words: int = WORDS, *, pad: bool = True) -> PreTrainedTokenizerFast:
    """Without `<image>`: of a language model that has seen no images."""
    special = ["<unk>", "<s>", "</s>", *(["<pad>"] if pad else [])]
    names = [*special, *(f"w{number}" for number in range(words - len(special)))]
    raw = Tokenizer(WordLevel({word: number for number, word in enumerate(names)}, unk_token="<unk>"))
    raw.pre_tokenizer = Whitespace()
    extra = {"pad_token": "<pad>"} if pad else {}
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **extra)


def state_of(model: torch.nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def save_clip(model: Any, folder: Path, *, both_halves: bool = False) -> str:
    """A CLIP as on the hub: of a two-tower model, or its vision half alone."""
    folder.mkdir(parents=True)
    encoder = model.vision_tower.encoder
    state = {f"vision_model.{name}": tensor for name, tensor in state_of(encoder).items()}
    state["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    config = encoder.config.to_dict()
    if both_halves:
        state |= {"text_model.final_layer_norm.bias": torch.zeros(2), "logit_scale": torch.zeros(())}
        state["visual_projection.weight"] = torch.zeros(2, SIZES["hidden_size"])
        config = {"model_type": "clip", "vision_config": config, "projection_dim": 2}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    statistics = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return str(folder)


def original_names(model: Llava, *, vision: bool = False) -> State:
    """LLaVA's own names (v1: mm_projector.weight; v1.5: mm_projector.0, .2)."""
    found: State = {}
    for name, tensor in state_of(model).items():
        part, _, rest = name.partition(".")
        if part == "language_model":
            found[rest] = tensor
        elif part == "connector":
            found["model.mm_projector." + rest.removeprefix("layers.").removeprefix("layer.")] = tensor
        elif vision:
            inner = rest.removeprefix("encoder.")
            found[f"model.vision_tower.vision_tower.vision_model.{inner}"] = tensor
    return found


def original_config(model: Llava, model_type: str = "llava", **changes: Any) -> dict[str, Any]:
    text = model.language_model.config.to_dict()
    projector = {"mm_projector_type": model.config.connector["type"]}
    about = {"mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_vision_select_layer": -2, "use_mm_proj": True}
    return {**text, **projector, **about, "mm_use_im_start_end": False, "model_type": model_type, **changes}


def save_language_model(model: Any, folder: Path, tokenizer: Any = None) -> str:
    """The language model of a multimodal one, as a folder of its own."""
    model.language_model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


def write(
    folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any] | None, kind: str = "safetensors"
) -> str:
    """Weights in `kind`: one "safetensors" or "bin" file, or "shards" of .bin with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if kind == "safetensors":
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    elif kind == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        names = sorted(state)
        placed: dict[str, str] = {}
        for number, half in enumerate((names[::2], names[1::2]), 1):
            file = f"pytorch_model-0000{number}-of-00002.bin"
            torch.save({name: state[name] for name in half}, folder / file)
            placed |= dict.fromkeys(half, file)
        index = {"metadata": {}, "weight_map": placed}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return str(folder)
