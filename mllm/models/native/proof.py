"""What was proved of a model's folder, kept in the cache beside a hash of its files; a model runs by what passed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mllm.cache import cache_folder, complete
from mllm.compat.transformers_models import attention_of
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, ModelError
from mllm.files import read_json
from mllm.models.meta_device import without_storage
from mllm.models.native.family import family_file
from mllm.models.native.self_check import CheckResult, check_files, check_model
from mllm.registry import CODECS, TEMPLATES

LARGEST_PROVED = 50_000_000
"""Parameters of a model that is computed with when it is built; larger ones on request, by `mllm model check`."""
FILES = ("*.json", "*.jinja", "*.model")
PROOFS = {"packs": ("packed rows",), "shares": ("rows that share an image", "answers that share an image")}
"""What a family without a file does only where these checks pass."""
WITHOUT_CHAT = "vicuna_v1"
"""The template of checks where the tokenizer has no chat template."""
_PROVED: dict[str, list[CheckResult]] = {}


def prove_or_refuse(model: Any, tokenizer: PreTrainedTokenizerBase, folder: str) -> None:
    """Let a model that was just built run, where its self-check passes.

    Pixels, counts and ids are looked at when a folder is first built. Of a family without a file, the model itself is
    computed with too, where it is small; packed rows and shared beginnings are for those that were proved.

    Raises:
        ModelError: what the family says of the folder's processor does not hold.
        ConfigError: the family has no file, and its self-check fails; says which to write.
    """
    if without_storage():
        return
    family, kind = model.family, model.config.model_type
    checks = proved(model, tokenizer, folder, compute=not family.listed and _is_small(model))
    failed = next((check for check in checks if check.failed and check.needed), None)
    if failed and family.listed:
        raise ModelError(
            f"the self-check of {kind} fails, {failed.name}: {failed.why}; `mllm model check {folder}` prints it all",
            where=folder,
        )
    if failed:
        raise ConfigError(
            f"{kind} has no family file, and its self-check fails, {failed.name}: {failed.why}; to add it write "
            f"{family_file(kind)} like its neighbours, see docs/native.md; `mllm model check {folder}` prints it all",
            where=folder,
        )
    why = {thing: _unproved(checks, names, folder, listed=family.listed) for thing, names in PROOFS.items()}
    model.unproved = {thing: reason for thing, reason in why.items() if reason}
    model.family = replace(
        family,
        pack=None if why["packs"] else family.pack,
        beside=None if why["shares"] else family.beside,
    )


def _unproved(checks: Sequence[CheckResult], names: Sequence[str], folder: str, *, listed: bool) -> str:
    """What stands in the way of what these checks prove; "": nothing. A listed family is believed until one fails."""
    found = {check.name: check for check in checks}
    if not listed and any(name not in found for name in names):
        return f"was not computed with, as `mllm model check {folder}` does"
    made = [found[name] for name in names if name in found]
    short = next((check for check in made if check.failed or not (listed or check.outcome == "pass")), None)
    return f"fails the check of {short.name} ({short.why})" if short else ""


def proved(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str, *, compute: bool
) -> list[CheckResult]:
    """All checks of a model, from the cache where they were made; `compute`: with those that compute with the model."""
    digest = _digest(model, folder)
    known = _stored(f"{digest}-look")
    if known is None:
        known = _store(f"{digest}-look", check_files(checked_processor(model, tokenizer)))
    computed = _stored(f"{digest}-run")
    if computed is None and compute:
        computed = _store(f"{digest}-run", check_model(model, checked_processor(model, tokenizer)))
    return [*known, *(computed or [])]


def checked_processor(model: Any, tokenizer: PreTrainedTokenizerBase) -> Processor:
    """By the codec and the template of the family; by a plain template where the tokenizer has no chat template."""
    family = model.family
    template = family.template if family.template != "chat" or tokenizer.chat_template else WITHOUT_CHAT
    return Processor(
        tokenizer=tokenizer,
        template=TEMPLATES.make(template),
        codec=CODECS.make(family.codec),
        view=model.image_preprocessor(),
    )


def _is_small(model: PreTrainedModel) -> bool:
    """Whether a model is computed with on any machine, in no time."""
    usual = model.dtype == torch.float32 and attention_of(model.config) in ("eager", "sdpa")
    cut = any(hasattr(parameter, "ds_id") for parameter in model.parameters())  # among ranks, by DeepSpeed
    return usual and not cut and sum(parameter.numel() for parameter in model.parameters()) <= LARGEST_PROVED


def _digest(model: Any, folder: str) -> str:
    """A hash of all that the checks depend on but the weights."""
    digest = hashlib.sha256(f"{transformers.__version__} {_sources()}".encode())
    digest.update(model.view.image_processor.to_json_string().encode())
    paths = {path for pattern in FILES for path in Path(folder).glob(pattern)}
    for path in sorted(path for path in paths if not path.name.endswith(".index.json")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:32]


@cache
def _sources() -> str:
    """A hash of the code that is checked, and that checks."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _stored(name: str) -> list[CheckResult] | None:
    path = _path(name)
    if name not in _PROVED and path.is_file():
        _PROVED[name] = [CheckResult(**check) for check in read_json(path, list, ModelError)]
    return _PROVED.get(name)


def _store(name: str, checks: list[CheckResult]) -> list[CheckResult]:
    _PROVED[name] = checks
    with complete(_path(name), "self-checks") as file:
        file.write(json.dumps([asdict(check) for check in checks], indent=1).encode())
    return checks


def _path(name: str) -> Path:
    return cache_folder() / "native" / f"{name}.json"
