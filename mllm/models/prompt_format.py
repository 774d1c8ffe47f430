"""How a model is spoken to: its region codec, template and placement of images.

Known before a model is built, since the vocabulary grows by it, and kept beside its weights, since a model answers
in the coordinates that it was trained with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mllm.errors import ConfigError, ModelError
from mllm.fields import check, check_names, in_field, show
from mllm.files import read_json
from mllm.geometry import PlacementKind
from mllm.model_files import ADAPTER_CONFIG, CONFIG, NAME_A_MODEL, PROMPT_FORMAT_FILE, how_to_get
from mllm.registry import MODELS, RegionCodecConfig, TemplateConfig
from mllm.signatures import parameters_of
from mllm.types import IMAGE

PROMPT_FORMAT_KEYS = ("codec", "template", "placement", "image_numbers")
"""Keys of model_args that say how the model is spoken to."""
Component = str | Mapping[str, Any]
Rule = Callable[[Mapping[str, Any]], "PromptFormat"]
"""model_args, without `type`, -> PromptFormat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFormat:
    """Codec and template as in a config; `placement` None: the model's own; `tokens` mark images in the text.

    `image_numbers`: several images are called by number.
    """

    codec: Component = "shikra"
    template: Component = "vicuna_v1"
    placement: PlacementKind | None = None
    tokens: tuple[str, ...] = (IMAGE,)
    image_numbers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPromptFormat:
    """What the file in a model's folder says."""

    type: str | None = None
    codec: RegionCodecConfig | None = None
    template: TemplateConfig | None = None
    placement: PlacementKind | None = None
    image_numbers: bool | None = None


def _family_prompt_format(model_args: Mapping[str, Any]) -> PromptFormat:
    folder = model_args.get("model_name_or_path")
    if not folder:
        raise ConfigError(
            NAME_A_MODEL,
            field="model_name_or_path",
            expected="the folder of a transformers model, for type='hf'",
            found="nothing",
        )
    if not Path(folder).is_dir():
        raise ModelError(
            how_to_get(folder), field="model_name_or_path", expected="a folder on this machine", found=folder
        )
    from mllm.models.components import local_folder
    from mllm.models.native.family import family_of  # families are made of what PyTorch and transformers hold

    family = family_of(local_folder("model_name_or_path", folder))
    return PromptFormat(codec=family.codec, template=family.template, tokens=())


def _causal_prompt_format(model_args: Mapping[str, Any]) -> PromptFormat:
    """A language model without a chat template goes on with the prompt as it is."""
    folder = model_args.get("model_name_or_path")
    return PromptFormat(template="chat" if folder is None or _has_chat_template(folder) else "completion", tokens=())


def _has_chat_template(folder: str) -> bool:
    path = Path(folder)
    if (path / "chat_template.jinja").is_file() or (path / "chat_template.json").is_file():
        return True
    settings = path / "tokenizer_config.json"
    return settings.is_file() and bool(read_json(settings, dict, ModelError).get("chat_template"))


OWN_TYPES = {"llava": "llava", "llava_next": "llava", "flamingo": "otter", "otter": "otter"}
"""What a folder's config.json calls the models that types other than "hf" read in its layout."""
RULES: dict[str, Rule] = {
    "llava": lambda model_args: PromptFormat(),
    "openflamingo": lambda model_args: PromptFormat(template="completion"),
    "otter": lambda model_args: PromptFormat(template="otter"),
    "causal_lm": _causal_prompt_format,
    "seq2seq": lambda model_args: PromptFormat(template="seq2seq", tokens=()),
    "hf": _family_prompt_format,
}
"""By type of model; of others the plain `PromptFormat()`. Here, so that data are read without importing the models."""


def chosen_prompt_format(model_args: Mapping[str, object]) -> PromptFormat:
    """What the config says, over what the model's folder says, over what its type says."""
    asked = {name: model_args[name] for name in PROMPT_FORMAT_KEYS if model_args.get(name) is not None}
    return replace(usual_prompt_format(model_args), **asked)


def usual_prompt_format(model_args: Mapping[str, Any]) -> PromptFormat:
    """What holds where the config says nothing: what the model's folder says, else its type.

    Raises:
        ConfigError: an unknown `type` of model.
        ModelError: the folder's file cannot be read.
    """
    kind = model_args.get("type")
    rule = RULES.get(kind) if isinstance(kind, str) else None
    if rule is None:
        MODELS.find(kind)
    prompt_format = rule(model_args) if rule else PromptFormat()
    stored = stored_prompt_format(model_args.get("model_name_or_path"))
    return replace(prompt_format, **{name: stored[name] for name in PROMPT_FORMAT_KEYS if stored.get(name) is not None})


def save_prompt_format(folder: str | Path, kind: str, prompt_format: PromptFormat) -> None:
    """`kind`: the `type` of model_args."""
    known = {name: getattr(prompt_format, name) for name in PROMPT_FORMAT_KEYS}
    if not prompt_format.image_numbers:
        del known["image_numbers"]
    record_prompt_format(folder, kind, known)


def record_prompt_format(folder: str | Path, kind: str, known: Mapping[str, Any]) -> None:
    """As `save_prompt_format`, of a model of which no more than `known` is known."""
    said = {"type": kind, **known}
    (Path(folder) / PROMPT_FORMAT_FILE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def model_type_of(folder: str | Path) -> str:
    """The `type` of the model that a folder holds: as mllm recorded it, else by transformers' config.json.

    Raises:
        ModelError: neither says it.
    """
    kind = stored_prompt_format(folder).get("type")
    if kind is None:
        path = Path(folder) / CONFIG
        model_type = read_json(path, dict, ModelError).get("model_type") if path.is_file() else None
        kind = kind_in_transformers(model_type)
        if kind is None:
            raise ModelError(
                _peft_base(Path(folder)) or "set model_args.type",
                where=str(folder),
                expected=f"a {PROMPT_FORMAT_FILE} or a {CONFIG} that names the type of the model",
                found="none" if model_type is None else f"model_type {show(model_type)}",
            )
    return str(kind)


def kind_in_transformers(model_type: object) -> str | None:
    """The `type` that reads a folder in transformers' layout; None where no type does."""
    if model_type in OWN_TYPES:
        return OWN_TYPES[str(model_type)]
    from mllm.compat.transformers_processors import answers_text, sees_images  # takes a second
    from mllm.models.language_models import UNFIT

    if sees_images(model_type):
        return "hf"
    if answers_text(model_type, from_text=True):
        return "seq2seq"
    return "causal_lm" if answers_text(model_type, from_text=False) and model_type not in UNFIT else None


def _peft_base(folder: Path) -> str | None:
    """What to do with a folder that holds nothing but adapters of PEFT."""
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        return None
    base = read_json(path, dict, ModelError).get("base_model_name_or_path")
    return (
        f"it holds adapters of PEFT alone: set model_args.model_name_or_path to their base, {show(base)} when they "
        f"were written, and model_args.adapters to dict(type='lora', from_pretrained={str(folder)!r})"
    )


def stored_prompt_format(folder: str | Path | None) -> dict[str, Any]:
    """What `save_prompt_format` wrote; nothing for any other folder.

    Raises:
        ModelError: the file cannot be read.
    """
    path = Path(folder or "") / PROMPT_FORMAT_FILE
    if not folder or not path.is_file():
        return {}
    said = read_json(path, dict, ModelError)
    try:
        check_names(said, StoredPromptFormat.__dataclass_fields__, ModelError)
        for name, value in said.items():
            in_field(name, check, value, parameters_of(StoredPromptFormat)[name].annotation, ModelError)
    except (ModelError, ConfigError) as error:
        raise ModelError(error.reason, where=str(path)) from error
    return said
