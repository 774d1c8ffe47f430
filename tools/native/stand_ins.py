"""Tiny random checkpoint folders of every image-text-to-text type of transformers, laid out as the public ones are:
config, weights, tokenizer with the family's own tokens and chat template, and its processor's files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from mllm.conversation.tokenizer_training import train_tokenizer
from tools.native.kind import Kind
from tools.native.kinds import KINDS
from tools.native.sizes import tiny

TYPES = tuple(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
TEXTS = ["Where is the red circle? Answer: [0.100,0.200,0.300,0.400]. A dog. User: Assistant: user assistant"]
ENDS = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "sep": "</s>", "eod": "</s>", "decoder_start": "<s>"}
"""Tokens of every tokenizer, by the beginnings of their names in a config."""
ID = re.compile(r"(\w+?)_(?:token_)?(?:id|index)")
VOCABULARY = ("vocab_size", "vocab_size_per_layer_input")
MARKED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
NOISE = 0.05


def save_stand_in(model_type: str, folder: Path, seed: int = 0) -> Path:
    """A folder of that type as it would be downloaded; its weights are random.

    Raises:
        ImportError: its parts are in a package that is not installed.
    """
    kind = KINDS[model_type]
    settings = _merged(tiny(_usual(model_type, kind)), kind.config)
    tokenizer = make_tokenizer(kind, settings)
    tokenizer.save_pretrained(folder)
    CONFIG_MAPPING[model_type](**_with_ids(settings, kind, tokenizer)).save_pretrained(folder)
    own = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if len(own) > len(tokenizer):  # its class adds tokens of its own, and is in its place whatever the files say
        own.save_pretrained(folder)
    tokenizer = own
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[model_type](**_with_ids(settings, kind, tokenizer))
    model = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    with torch.no_grad():  # zeros and ones would hide a norm or a bias that is left out
        for parameter in model.parameters():
            parameter.add_(NOISE * torch.randn_like(parameter))
    model.save_pretrained(folder)
    for part in kind.parts:
        make_tokenizer(Kind(form=None), {}).save_pretrained(folder / part)
    _save_processor(model_type, kind, folder)
    return folder


def make_tokenizer(kind: Kind, config: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """With the family's tokens under their names, and one for each id that the config names."""
    form = kind.form
    named = {f"{stem}_token": f"<|{stem}|>" for stem in _stems(config) if f"{stem}_token" not in kind.tokens}
    more = [*kind.more, *named.values()]
    if form:
        more += MARKED.findall("".join((form.start, form.asked, form.asked_end, form.answered, form.answered_end)))
    blank = train_tokenizer(TEXTS, vocab_size=330)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=blank.backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=dict(kind.tokens),
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(dict.fromkeys(more))})
    if form:
        tokenizer.chat_template = form.template(kind.tokens["image_token"] if kind.image is None else kind.image)
    return tokenizer


def _usual(model_type: str, kind: Kind) -> dict[str, Any]:
    """The settings that transformers has for the type, with parts that only its public folders have."""
    parts: dict[str, Any] = {
        name: part for name, part in kind.config.items() if isinstance(part, Mapping) and "model_type" in part
    }
    return CONFIG_MAPPING[model_type](**parts).to_dict()


def _stems(config: Mapping[str, Any]) -> Iterator[str]:
    """Beginnings of the names of ids of tokens, those of every tokenizer left out."""
    for name, value in config.items():
        found = ID.fullmatch(name)
        if isinstance(value, Mapping):
            yield from _stems(value)
        elif found and "token" in name and found[1] not in ENDS and not name.startswith("_"):
            yield found[1]


def _with_ids(config: Mapping[str, Any], kind: Kind, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The config with the ids and the size of this tokenizer."""
    again = partial(_with_ids, kind=kind, tokenizer=tokenizer)
    number = tokenizer.convert_tokens_to_ids
    found: dict[str, Any] = {}
    for name, value in config.items():
        stem = ID.fullmatch(name)
        if name in kind.ids:
            found[name] = _numbers(kind.ids[name], tokenizer)
        elif isinstance(value, Mapping):
            found[name] = again(value)
        elif name in VOCABULARY and value and kind.config.get("vision_config", {}).get(name) != value:
            found[name] = len(tokenizer)
        elif stem and stem[1] in ENDS and value is not None:
            found[name] = number(ENDS[stem[1]])
        elif stem and "token" in name and not name.startswith("_"):
            token = kind.tokens.get(f"{stem[1]}_token", f"<|{stem[1]}|>")
            found[name] = [number(token)] if isinstance(value, list) else number(token)
        elif name == "_pad_token_id":
            found["pad_token_id"] = tokenizer.pad_token_id
        else:
            found[name] = value
    for name, token in kind.ids.items():
        if name not in found and "model_type" in config and config["model_type"] in KINDS:
            found[name] = _numbers(token, tokenizer)
    return found


def _numbers(tokens: Any, tokenizer: PreTrainedTokenizerFast) -> Any:
    if isinstance(tokens, Mapping):
        return {name: _numbers(token, tokenizer) for name, token in tokens.items()}
    return tokenizer.convert_tokens_to_ids(tokens)


def _merged(config: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`more` laid over a config, part by part."""
    found = dict(config)
    for name, value in more.items():
        inner: Any = found.get(name)
        deep = isinstance(value, Mapping) and isinstance(inner, Mapping) and "model_type" in inner
        found[name] = _merged(inner, value) if deep else value
    return found


def _save_processor(model_type: str, kind: Kind, folder: Path) -> None:
    names: Any = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type) or {}
    image = kind.image_class or names.get("torchvision") or names.get("pil")
    processor = kind.processor_class or PROCESSOR_MAPPING_NAMES.get(model_type)
    if image:
        _write(folder / "preprocessor_config.json", {"image_processor_type": image, **kind.pixels}, processor)
    if processor:
        _write(folder / "processor_config.json", dict(kind.processor), processor)


def _write(path: Path, settings: dict[str, Any], processor: str | None) -> None:
    named = {**settings, **({"processor_class": processor} if processor else {})}
    path.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
