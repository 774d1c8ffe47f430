"""Checkpoints of OpenFlamingo and of those who share its names: read, checked against a model, written again.

A released file holds what was trained: perceiver, cross-attention, input embeddings. Vision encoder and language model
come from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mllm.errors import ModelError, listing
from mllm.models.adapters.low_rank import matrices, plain_names
from mllm.models.checkpoints.finite import finite
from mllm.models.checkpoints.lazy import Lazy, chain_of, open_file, thirds
from mllm.models.checkpoints.weight_sources import COMPUTED
from mllm.models.flamingo.model import Flamingo
from mllm.models.parts import is_quantized

State = dict[str, Tensor]
Held = TypeVar("Held", Tensor, Lazy)

ALIAS = re.compile(r"^lang_encoder\.(old_decoder_blocks|gated_cross_attn_layers)\.(\d+)\.(.*)$")
"""Second names under which the reference's language model holds its layers."""
REFERENCE_NAMES = (
    # Otter's names for the layers of the perceiver and of cross-attention
    (r"^(perceiver\.layers\.\d+)\.(norm_media|norm_latents|to_q|to_kv|to_out)\.", r"\1.0.\2."),
    (r"^(perceiver\.layers\.\d+)\.feed_forward\.", r"\1.1."),
    (r"(\.gated_cross_attn_layer)\.feed_forward\.", r"\1.ff."),
    # older transformers
    (r"^lang_encoder\.embed_out\.", r"lang_encoder.lm_head."),
    (r"^vision_encoder\.vision_model\.", r"vision_encoder."),
    (r"^lang_encoder\.", r"language_model."),
    (r"^vision_encoder\.", r"vision_tower.encoder."),
)
REFERENCE_PREFIXES = (
    (r"^language_model\.", r"lang_encoder."),
    (r"^vision_tower\.encoder\.", r"vision_encoder."),
)
OPEN_CLIP = (
    (r"^vision_encoder\.conv1\.", r"vision_encoder.embeddings.patch_embedding."),
    (r"^vision_encoder\.class_embedding$", r"vision_encoder.embeddings.class_embedding"),
    (r"^vision_encoder\.positional_embedding$", r"vision_encoder.embeddings.position_embedding.weight"),
    (r"^vision_encoder\.ln_pre\.", r"vision_encoder.pre_layrnorm."),
    (r"^vision_encoder\.ln_post\.", r"vision_encoder.post_layernorm."),
    (r"^vision_encoder\.transformer\.resblocks\.", r"vision_encoder.encoder.layers."),
    (r"^(vision_encoder\..*)\.ln_([12])\.", r"\1.layer_norm\2."),
    (r"^(vision_encoder\..*)\.mlp\.c_fc\.", r"\1.mlp.fc1."),
    (r"^(vision_encoder\..*)\.mlp\.c_proj\.", r"\1.mlp.fc2."),
    (r"^(vision_encoder\..*layers\.\d+)\.attn\.", r"\1.self_attn."),
)


def read_reference(path: str | Sequence[str]) -> State:
    """The weights of a `.pt`, `.bin` or `.safetensors` file under our names; of "a.pt,b.pt" the later ones count.

    Raises:
        ModelError: no such file, or one that holds no weights, or low-rank adapters that are still to be merged.
    """
    state: State = {}
    for file in chain_of(path):
        state |= to_our_names({name: lazy.read() for name, lazy in finite(open_file(file)).items()})
    if found := matrices(state):
        raise ModelError(
            f"run mllm checkpoint convert {path} OUT_DIR first",
            where=str(path),
            expected="merged weights",
            found=f"{len(found)} adapter matrices",
        )
    return state


def to_our_names(state: Mapping[str, Held]) -> dict[str, Held]:
    """The names of OpenFlamingo (with open_clip's or transformers' vision encoder) and of Otter as ours.

    Of layers wrapped by PEFT, the names that they had before.
    """
    state = plain_names({name.removeprefix("module."): tensor for name, tensor in state.items()})
    state = _without_aliases(state)
    if "vision_encoder.conv1.weight" in state:
        state = _from_open_clip(state)
    return {_renamed(name, REFERENCE_NAMES): tensor for name, tensor in state.items() if not COMPUTED.search(name)}


def load_reference(model: Flamingo, state: Mapping[str, Tensor], where: str, *, whole: bool = False) -> None:
    """Copy weights under our names into the model.

    The embeddings of the file may have fewer rows than the model, whose first rows they then are, or more, which the
    model then gets. `whole`: the vision encoder and the language model must be there too.

    Raises:
        ModelError: lists all weights that are missing, unexpected, or of another shape.
    """
    language_model = model.language_model
    embedding = _name_of(model, language_model.get_input_embeddings().weight)
    rows = state[embedding].shape[0] if embedding in state else 0
    if rows > language_model.get_input_embeddings().num_embeddings:
        language_model.resize_token_embeddings(rows)
    tables = {embedding, *_names_below(model, language_model.get_output_embeddings())}
    own = model.state_dict()
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - dict(model.named_parameters()).keys()
    wrong = [
        f"missing {name}" for name in own if name not in state if (whole and name not in tied) or _is_flamingos(name)
    ]
    wrong += [f"unexpected {name}" for name in state if name not in own]
    quantized = {name for name, parameter in model.named_parameters() if is_quantized(parameter)}
    wrong += [f"{name}: quantised already, cannot be loaded" for name in state.keys() & quantized]
    filled: State = {}
    for name in own.keys() & state.keys():
        new, old = state[name], own[name]
        if name in tables and new.shape[1:] == old.shape[1:] and len(new) < len(old):
            new = torch.cat([new.to(old), old[len(new) :]])
        if new.shape != old.shape:
            wrong.append(f"{name}: {list(new.shape)} instead of {list(old.shape)}")
        filled[name] = new
    if wrong:
        raise ModelError(f"does not fit this Flamingo: {listing(sorted(wrong))}", where=where)
    model.load_state_dict(filled, strict=False)


def reference_state(model: Flamingo, *, whole: bool = False) -> State:
    """The weights under OpenFlamingo's names: what its training saves, or all of them.

    It saves what is trained and whatever has "embed" in its name, but no vision encoder.
    """
    kept: State = {}
    for name, parameter in model.named_parameters():
        saved = not name.startswith("vision_tower.") and (parameter.requires_grad or "embed" in name)
        if whole or saved or _is_flamingos(name):
            kept[_renamed(name, REFERENCE_PREFIXES)] = parameter.detach()
    return kept


def save_reference(model: Flamingo, path: str, *, whole: bool = False) -> None:
    """Write a file as OpenFlamingo releases them, `.pt` or `.safetensors`; or with `whole` all weights."""
    state = {name: tensor.cpu().contiguous() for name, tensor in reference_state(model, whole=whole).items()}
    if path.endswith(".safetensors"):
        save_file(state, path, {"format": "pt"})
    else:
        torch.save(state, path)


def _is_flamingos(name: str) -> bool:
    return name.startswith("perceiver.") or ".gated_cross_attn_layer." in name


def _without_aliases(state: dict[str, Held]) -> dict[str, Held]:
    """Without what the reference's language model holds a second time under other names.

    Raises:
        ModelError: weights that have no first name.
    """
    kept = {name: tensor for name, tensor in state.items() if not ALIAS.match(name)}
    for name in state.keys() - kept.keys():
        alias = ALIAS.match(name)
        assert alias is not None
        below = "gated_cross_attn_layer" if alias[1] == "gated_cross_attn_layers" else "decoder_layer"
        ending = f".{alias[2]}.{below}.{alias[3]}"
        if below == "gated_cross_attn_layer" and not any(other.endswith(ending) for other in kept):
            raise ModelError(field=name, expected=f"a second copy that ends in {ending}", found="none")
    return kept


def _from_open_clip(state: Mapping[str, Held]) -> dict[str, Held]:
    found: dict[str, Held] = {}
    for name, tensor in state.items():
        new = _renamed(name, OPEN_CLIP)
        if new == "vision_encoder.proj":
            continue  # leads into CLIP's joint space, which patches never enter
        if ".in_proj_" in new:
            blocks: Any = thirds(tensor) if isinstance(tensor, Lazy) else tensor.chunk(3)
            for part, third in zip("qkv", blocks, strict=True):
                found[new.replace(".in_proj_", f".{part}_proj.")] = third
        else:
            found[new] = tensor
    return found


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _name_of(model: Flamingo, parameter: Tensor) -> str:
    return next(name for name, other in model.named_parameters() if other is parameter)


def _names_below(model: Flamingo, module: nn.Module) -> set[str]:
    own = {id(parameter) for parameter in module.parameters()}
    return {name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) in own}
