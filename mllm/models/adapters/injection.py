"""Adapters in a model: put in, listed, saved beside a base that stays where it is, loaded, merged into it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from mllm.compat.peft import AdaptedLayer, LoraConfig, inject
from mllm.errors import ConfigError, ModelError, listing
from mllm.files import read_json
from mllm.json_fields import field
from mllm.models.adapters.selection import is_adapter, linear_layers, selected_parameters, unadapted_name
from mllm.models.adapters.settings import Adapters, read_adapters
from mllm.models.checkpoints.finite import require_finite
from mllm.models.checkpoints.lazy import chain_of, open_file
from mllm.models.components import local_folder
from mllm.models.parts import is_quantized, part_of

SETTINGS, LOW_RANK, IN_FULL = "adapters.json", "adapter_model.safetensors", "trained_in_full.safetensors"
ADAPTER_SUFFIX = ".default"
"""PEFT's name of our one adapter, which its files leave out."""
PREFIX = "base_model.model."
"""Before each name in a file of PEFT."""
NOT_BASE = ("freeze", "attn_implementation", "pad_to_multiple_of")
"""Arguments of a model that say how it is run, not what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """What was done to a model, and what of it a checkpoint must hold.

    Attributes:
        base: the `model_args` that build the base again.
        saved: names, as of the base, of the tensors that a checkpoint holds in full.
    """

    adapters: Adapters
    base: Mapping[str, Any]
    saved: frozenset[str]


def inject_adapters(model: Any, adapters: Adapters, base: Mapping[str, object]) -> None:
    """Freeze the model but for `unfrozen`, and put adapters beside the target layers. It stays of its own class.

    Args:
        model: after its `freeze`: what that froze is neither adapted nor unfrozen.
        base: the `model_args` that build it again; what they do not name a folder for is saved in full.

    Raises:
        ConfigError: targets or unfrozen names that mean nothing, or the vision tower without naming it.
    """
    layers = linear_layers(model, adapters.targets) if adapters.low_rank else []
    in_full = selected_parameters(model, adapters.unfrozen, "unfrozen")
    if not adapters.low_rank:
        in_full |= selected_parameters(model, adapters.targets, "targets")
    saved = in_full | {name for name in model.state_dict() if not _in_folder(name, base)}
    model.requires_grad_(False)
    if layers:
        if adapters.from_pretrained:
            _check_rank(_peft_file(Path(adapters.from_pretrained)), adapters)
        _inject(model, adapters, layers)
        if adapters.from_pretrained:
            _load_low_rank(model, adapters.from_pretrained)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name) or unadapted_name(name) in in_full)
    model.freeze_untrained()
    model.adaptation = Adaptation(adapters=adapters, base=dict(base), saved=frozenset(saved))


def adaptation_of(model: nn.Module) -> Adaptation | None:
    return getattr(model, "adaptation", None)


def base_of(folder: str) -> tuple[dict[str, Any], Adapters] | None:
    """The base's `model_args` and the adapters, of a folder that `save_adapted` wrote; None of any other."""
    path = Path(folder) / SETTINGS
    if not path.is_file():
        return None
    found = read_json(path, dict, ModelError)
    base = field(found, "base", dict, where=path, error=ModelError)
    settings = field(found, "adapters", dict, where=path, error=ModelError)
    for name, places in _places(base).items():
        for place in places:
            if not place.exists():
                reason = f"its base is gone: {name} {place}; if it was moved, correct the path there"
                raise ModelError(reason, where=str(path))
    try:
        adapters = read_adapters({**settings, "from_pretrained": None})
    except ConfigError as error:
        raise ModelError(str(error.inside("adapters")), where=str(path)) from error
    if adapters.low_rank:
        _check_rank(Path(folder) / LOW_RANK, adapters)
    return base, adapters


def require_whole_model(folder: str) -> str:
    """The folder, of a model that needs no other.

    Raises:
        ModelError: there is none, or it holds adapters.
    """
    local_folder("model_name_or_path", folder)
    if base_of(folder):
        raise ModelError(
            f"run mllm checkpoint merge {folder} OUT_DIR first",
            where=str(folder),
            expected="a whole model",
            found="adapters",
        )
    return folder


def as_base(model_args: Mapping[str, object]) -> dict[str, object]:
    """The `model_args` that build the same base again from any working directory."""
    base = {name: value for name, value in model_args.items() if name not in NOT_BASE and value is not None}
    for name, places in _places(base).items():
        resolved = [str(place.resolve()) for place in places]
        base[name] = resolved if len(resolved) > 1 else resolved[0]
    return base


def gather_adapted(model: PreTrainedModel, *, keep: bool = True) -> dict[str, Tensor]:
    """The tensors that `save_adapted` writes, whole and on the CPU. Where the model is sharded, every rank calls it.

    `keep`: False on ranks that only take part.
    """
    gathered: dict[str, Tensor] = {}
    for name, tensor in _written(model, model.state_dict()).items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            gathered[name] = whole.detach().cpu()
    return gathered


def save_adapted(model: Any, folder: str, state_dict: Mapping[str, Tensor] | None = None) -> None:
    """Write the adapters in PEFT's layout, what else cannot be found in the base, and where the base is.

    `state_dict`: whole tensors, where the model itself holds shards.
    """
    done: Adaptation = model.adaptation
    state = _written(model, state_dict) if state_dict else gather_adapted(model)
    low_rank = {PREFIX + name.replace(ADAPTER_SUFFIX, ""): tensor for name, tensor in state.items() if is_adapter(name)}
    in_full = {unadapted_name(name): tensor for name, tensor in state.items() if not is_adapter(name)}
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if low_rank:
        _write(low_rank, path / LOW_RANK)
        peft: Any = model.peft_config["default"]
        peft.base_model_name_or_path = done.base.get("model_name_or_path")
        peft.save_pretrained(folder)
    _write(in_full, path / IN_FULL)
    settings = {"base": done.base, "adapters": {**done.adapters.as_dict(), "from_pretrained": None}}
    (path / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def load_adapted(model: Any, folder: str) -> None:
    """Take over what `save_adapted` wrote from a model adapted in the same way.

    Raises:
        ModelError: tensors are missing, or do not fit.
    """
    names = {unadapted_name(name): name for name in model.state_dict()}
    found = {names.get(name, name): tensor for name, tensor in _read(Path(folder) / IN_FULL).items()}
    if adapted := {name for name in names.values() if is_adapter(name)}:
        found |= _named(_read(Path(folder) / LOW_RANK), adapted)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    _load(model, found, needed=adapted | trained, folder=folder)
    # what the file holds beyond this model's own needs is needed from now on
    done: Adaptation = model.adaptation
    saved = done.saved | {unadapted_name(name) for name in found if not is_adapter(name)}
    model.adaptation = Adaptation(adapters=done.adapters, base=done.base, saved=saved)


@torch.no_grad()
def merge(model: PreTrainedModel) -> Any:
    """The plain model, in place: every adapter added to its layer's weight.

    Raises:
        ModelError: the layers are quantised, and would round the sum.
    """
    if any(is_quantized(parameter) for parameter in model.parameters()):
        raise ModelError("adapters cannot be merged into quantised weights: build the base without quantization")
    for name, module in list(model.named_modules()):
        if isinstance(module, AdaptedLayer):
            merging = module
            try:
                merging.merge(safe_merge=True)
            except ValueError as error:  # the sum is not finite
                raise ModelError(f"adapter of {name}: {error}; try a wider dtype") from error
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, merging.get_base_layer())
    model.requires_grad_(True)
    for added in ("adaptation", "peft_config"):
        if hasattr(model, added):
            delattr(model, added)
    return model


def parameter_table(model: nn.Module) -> str:
    """Of each part: parameters, how many are in adapted layers, in adapters, trained in full, frozen, and the share."""
    counts: dict[str, list[int]] = {}
    layers = [name for name, module in model.named_modules() if isinstance(module, AdaptedLayer)]
    for name, parameter in model.named_parameters():
        row = counts.setdefault(part_of(name), [0, 0, 0, 0])
        if is_adapter(name):
            row[2] += parameter.numel()
            continue
        size = parameter_count(parameter)
        row[0] += size
        row[1] += size if name.rpartition(".base_layer.")[0] in layers else 0
        row[3] += size if parameter.requires_grad else 0
    counts["total"] = [sum(column) for column in zip(*counts.values(), strict=True)]
    lines = [
        f"{'part':16}{'parameters':>15}{'adapted':>15}{'adapters':>14}{'in full':>15}{'frozen':>15}{'trained':>10}"
    ]
    for part, (base, adapted, added, full) in counts.items():
        share = (added + full) / (base + added)
        lines.append(f"{part:16}{base:>15,}{adapted:>15,}{added:>14,}{full:>15,}{base - full:>15,}{share:>10.3%}")
    return "\n".join(lines)


def _inject(model: PreTrainedModel, adapters: Adapters, layers: list[str]) -> None:
    config = LoraConfig(
        r=adapters.r,
        lora_alpha=adapters.alpha,  # pyright: ignore[reportArgumentType]  # any number will do
        lora_dropout=adapters.dropout,
        use_dora=adapters.type == "dora",
        use_rslora=adapters.type == "rslora",
        target_modules=layers,
    )
    inject(config, model)


def _check_rank(path: Path, adapters: Adapters) -> None:
    """Matrices take memory before they are compared with the file's, and a file of settings may say anything.

    Raises:
        ModelError: the file's matrices are of another rank, or there is no such file.
    """
    ranks = {lazy.shape[0] for name, lazy in open_file(path).items() if name.endswith(".lora_A.weight")}
    if ranks != {adapters.r}:
        found = ", ".join(map(str, sorted(ranks))) or "no matrices"
        raise ModelError(where=str(path), expected=f"matrices of rank {adapters.r}, as its settings say", found=found)


def _load_low_rank(model: PreTrainedModel, folder: str) -> None:
    adapted = {name for name in model.state_dict() if is_adapter(name)}
    _load(model, _named(_read(_peft_file(Path(folder))), adapted), needed=adapted, folder=folder)


def _named(tensors: Mapping[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    """A file of PEFT under this model's names: written from the whole model, or from its language model alone."""
    known = {PREFIX + name.replace(ADAPTER_SUFFIX, ""): name for name in names}
    inner = {PREFIX + name.replace(ADAPTER_SUFFIX, "").partition(".")[2]: name for name in names}
    return {known.get(name, inner.get(name, name)): tensor for name, tensor in tensors.items()}


def _load(model: PreTrainedModel, found: Mapping[str, Tensor], *, needed: set[str], folder: str) -> None:
    own = model.state_dict()
    wrong = [f"missing {name}" for name in sorted(needed - found.keys())]
    wrong += [f"unexpected {name}" for name in sorted(found.keys() - own.keys())]
    for name in sorted(found.keys() & own.keys()):
        if found[name].shape != own[name].shape:
            wrong.append(f"{name}: {list(found[name].shape)} instead of {list(own[name].shape)}")
    if wrong:
        raise ModelError(listing(wrong), where=folder, expected="the adapters of this model", found="others")
    model.load_state_dict({name: _sharded_as(own[name], tensor) for name, tensor in found.items()}, strict=False)


def _sharded_as(own: Tensor, whole: Tensor) -> Tensor:
    """This rank's part of a tensor that every rank has read, where the model's own is sharded."""
    if not isinstance(own, DTensor):
        return whole
    return distribute_tensor(whole.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def _written(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a whole state the adapters and what the base lacks; tied parameters under their first name."""
    saved = model.adaptation.saved
    tied = dict(model.named_parameters(remove_duplicate=False)).keys() - dict(model.named_parameters()).keys()
    return {
        name: tensor
        for name, tensor in state.items()
        if name not in tied and (is_adapter(name) or unadapted_name(name) in saved)
    }


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(where=str(path), expected="adapters that name their base", found="no such file")
    tensors = {name: lazy.read() for name, lazy in open_file(path).items()}
    return dict(require_finite(tensors, str(path)))


def _peft_file(folder: Path) -> Path:
    old = folder / "adapter_model.bin"
    return old if old.is_file() and not (folder / LOW_RANK).is_file() else folder / LOW_RANK


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _places(base: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Arguments that name weights on disk, and where: a folder, two of them, or a file or chain of files."""
    found: dict[str, list[Path]] = {}
    for name in ("model_name_or_path", "vision_tower", "language_model", "checkpoint"):
        value = base.get(name)
        if name == "checkpoint" and value:
            found[name] = chain_of(value)
        elif isinstance(value, str):
            found[name] = [Path(value)]
        elif isinstance(value, Sequence) and value and all(isinstance(each, str) for each in value):
            found[name] = [Path(each) for each in value]
    return found


def _in_folder(name: str, base: Mapping[str, object]) -> bool:
    places = _places(base)
    return "model_name_or_path" in places or part_of(name) in places


def parameter_count(parameter: Tensor) -> int:
    """Weights in it; of 4-bit weights two share a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()
