"""Tokens that a model got beside those of its language model: recorded in its config, taken away, given back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from mllm.errors import ModelError, listing
from mllm.fields import Count, check_arguments
from mllm.files import read_json
from mllm.json_fields import field
from mllm.models.checkpoints.lazy import Weights, open_file, stack_lazily
from mllm.models.outline import Skeleton
from mllm.tokenizer_files import load_tokenizer, token_id

FOLDER, RECORD, ROWS = "vocabulary", "vocabulary.json", "rows.safetensors"
"""In a subfolder: readers of the export would take every file of weights beside the model's for one of its shards."""


def record_rows(model: PreTrainedModel) -> None:
    """Record how many embeddings the model has before the first token is added."""
    if model.config.base_rows is None:
        model.config.base_rows = model.get_input_embeddings().num_embeddings


def record_tokens(config: PreTrainedConfig, tokens: Sequence[str]) -> None:
    """Record tokens that were added to the tokenizer, in order."""
    config.added_tokens = [*config.added_tokens, *(token for token in tokens if token not in config.added_tokens)]


def recorded_tokens(folder: str | None) -> list[str]:
    """The added tokens that a folder's config.json records."""
    path = Path(folder or "") / "config.json"
    if not folder or not path.is_file():
        return []
    found = read_json(path, dict, ModelError)
    return field(found, "added_tokens", list[str], where=path, error=ModelError) if found.get("added_tokens") else []


def check_added_tokens(folder: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """The tokens that a folder's config.json records are its tokenizer's, in their order and where the rows begin.

    Raises:
        ModelError: they are not: ids would be read by the rows of other tokens.
    """
    tokens = recorded_tokens(folder)
    if not tokens:
        return
    rows: Any = read_json(Path(folder) / "config.json", dict, ModelError).get("base_rows")
    ids = {token: token_id(tokenizer, token) for token in tokens}
    missing = [token for token, number in ids.items() if number is None]
    known = [number for number in ids.values() if number is not None]
    moved = known != sorted(known) or (isinstance(rows, int) and known and known[0] > rows)
    if missing or moved:
        raise ModelError(
            f"not the tokenizer that the model was trained with: config.json records {len(tokens)} added tokens",
            where=folder,
            field="added_tokens",
            expected="each in the tokenizer, in this order" + (f", from {rows} on or before" if rows else ""),
            found=f"no {missing[0]}" if missing else f"{tokens[0]} at {known[0]}",
        )


def strip_added_tokens(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, *, needed: Sequence[str]) -> Any:
    """Cut the embeddings of added tokens off the model, and the tokens off a copy of its tokenizer, which is returned.

    What was cut off is written to `folder/vocabulary`. Tokens up to the last of the `needed` ones, without which the
    layout cannot say where an image is, stay.

    Raises:
        ModelError: the model's config holds no record.
    """
    added, rows = list(model.config.added_tokens), model.config.base_rows
    if rows is None:
        raise ModelError(
            "the vocabulary cannot be restored without it",
            where="config.json",
            expected="a record of the vocabulary, base_rows and added_tokens",
            found="none",
        )
    kept = max((number + 1 for number, token in enumerate(added) if token in needed), default=0)
    dropped = added[kept:]
    ids: list[int] = [tokenizer.convert_tokens_to_ids(token) for token in dropped]  # pyright: ignore[reportAssignmentType]
    first = min(ids, default=len(tokenizer))
    if ids != list(range(first, len(tokenizer))):
        raise ModelError(
            "they cannot be removed",
            where="tokenizer",
            expected=f"the added tokens {', '.join(dropped[:3])} ... as its last ones",
            found="others after them",
        )
    rows = max(rows, first) if kept else rows
    target = folder / FOLDER
    target.mkdir(parents=True)
    state = model.state_dict()
    tables = [name for name in Skeleton(model.config).tables if name in state]
    save_file({name: state[name][rows:].clone().contiguous() for name in tables}, target / ROWS, {"format": "pt"})
    record = {"base_rows": model.config.base_rows, "kept": added[:kept], "added": dropped, "ids": ids}
    (target / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if rows < model.get_input_embeddings().num_embeddings:
        model.language_model.resize_token_embeddings(rows)
    return _without(tokenizer, dropped, ids, target / "tokenizer")


def restore_added_tokens(weights: Weights, config: Any, folder: Path) -> tuple[Weights, dict[str, int], list[str]]:
    """Undo `strip_added_tokens`: the whole weights, the tokens to add with their ids, and all that were ever added."""
    record = folder / FOLDER / RECORD
    if not record.is_file():
        return weights, {}, []
    found = read_json(record, dict, ModelError)
    check_record(found, record)
    cut = open_file(folder / FOLDER / ROWS)
    wrong = [f"{name}, {list(rows.shape)}" for name, rows in cut.items() if not _fits(weights, name, rows.shape)]
    if wrong:
        raise ModelError(f"rows for different embeddings: {listing(wrong)}", where=str(folder / FOLDER))
    config.text_config.vocab_size += max((rows.shape[0] for rows in cut.values()), default=0)
    config.base_rows = found["base_rows"]
    whole = {**weights, **{name: stack_lazily(weights[name], rows) for name, rows in cut.items() if name in weights}}
    again = dict(zip(found["added"], found["ids"], strict=True))
    return whole, again, [*found["kept"], *found["added"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was cut off: tokens with their ids, those that stayed, and how many embeddings there were before any."""

    base_rows: Count
    kept: Sequence[str]
    added: Sequence[str]
    ids: Sequence[Count]


def check_record(found: Mapping[str, object], path: Path) -> None:
    try:
        check_arguments(found, Record, ModelError)
    except ModelError as error:
        raise error.at(str(path)) from error


def _fits(weights: Weights, name: str, shape: tuple[int, ...]) -> bool:
    # a tied head is not in every file
    return name not in weights or weights[name].shape[1:] == shape[1:]


def _without(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], ids: Sequence[int], folder: Path) -> Any:
    """The tokenizer as it was before these were added: it is saved, its files are edited, and it is read again."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            where=type(tokenizer).__name__, expected="a tokenizer.json, to remove tokens from", found="none"
        )
    found = json.loads(path.read_text(encoding="utf-8"))
    found["added_tokens"] = [entry for entry in found["added_tokens"] if entry["content"] not in tokens]
    path.write_text(json.dumps(found, ensure_ascii=False, indent=2), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    for name in ("extra_special_tokens", "additional_special_tokens"):
        if isinstance(settings.get(name), list):
            settings[name] = [token for token in settings[name] if token not in tokens]
    for number in ids:
        settings.get("added_tokens_decoder", {}).pop(str(number), None)
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=2), encoding="utf-8")
    smaller = load_tokenizer(folder)
    left = [token for token in tokens if token_id(smaller, token) is not None]
    if left or len(smaller) != len(tokenizer) - len(tokens):
        raise ModelError(f"{type(tokenizer).__name__}: {left or tokens} could not be removed from the tokenizer")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return smaller
