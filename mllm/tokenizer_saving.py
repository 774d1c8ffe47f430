"""Tokenizers are saved so that they read back: what is written is read again first, and compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm.errors import ModelError
from mllm.fields import show
from mllm.files import read_json
from mllm.tokenizer_files import CONFIG, PROBE_TEXTS, RECORD, read_by_class

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERIC = "PreTrainedTokenizerFast"
"""The class that reads `tokenizer.json` as it stands, by the name that transformers 4 and 5 both know."""


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | Path, *, probes: Iterable[str] = ()) -> None:
    """Write the tokenizer, read it back, and compare the ids of `PROBES`, all added tokens, and the caller's `probes`.

    Raises:
        ModelError: the folder reads other ids; names the first differing text.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer.save_pretrained(folder)
    if type(tokenizer) is PreTrainedTokenizerFast:
        _name_generic_class(folder)
    texts = [*PROBE_TEXTS, _added_tokens_in_text(tokenizer), *probes]
    difference = _difference(tokenizer, read_by_class(folder), texts)
    if difference is not None:
        # the class rebuilds itself from parts of what is written: the generic one does not
        _name_generic_class(folder)
        difference = _difference(tokenizer, read_by_class(folder), texts)
    if difference is not None:
        raise ModelError(
            f"the {type(tokenizer).__name__} differs after saving and loading: {difference}", where=str(folder)
        )
    record = {"texts": PROBE_TEXTS, "ids": [tokenizer(text, verbose=False)["input_ids"] for text in PROBE_TEXTS]}
    Path(folder, RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")


def _name_generic_class(folder: str | Path) -> None:
    path = Path(folder) / CONFIG
    settings = {**read_json(path, dict, ModelError), "tokenizer_class": GENERIC}
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _added_tokens_in_text(tokenizer: PreTrainedTokenizerBase) -> str:
    fill = getattr(tokenizer, "fill_token", None)  # of CodeLlama, which takes a text apart where it stands
    tokens = [str(token) for token in tokenizer.added_tokens_decoder.values() if str(token) != fill]
    return "".join(f"a{token}b {token} {token}\n" for token in tokens)


def _difference(tokenizer: PreTrainedTokenizerBase, again: PreTrainedTokenizerBase, texts: Iterable[str]) -> str | None:
    """The first thing that the tokenizer read back does otherwise, in words."""
    if len(again) != len(tokenizer):
        return f"expected {len(tokenizer)} tokens, found {len(again)}"
    if again.special_tokens_map != tokenizer.special_tokens_map:
        return f"expected the special tokens {tokenizer.special_tokens_map}, found {again.special_tokens_map}"
    if again.chat_template != tokenizer.chat_template:
        return "the chat template is another one"
    for text in texts:
        ids: Any = tokenizer(text, verbose=False)["input_ids"]
        found: Any = again(text, verbose=False)["input_ids"]
        if ids != found:
            pairs = enumerate(zip(ids, found, strict=False))
            place = next((number for number, (a, b) in pairs if a != b), min(len(ids), len(found)))
            said = tokenizer.convert_ids_to_tokens(ids[place : place + 5])
            read = again.convert_ids_to_tokens(found[place : place + 5])
            return f"expected the tokens {said} in {show(text)}, found {read}"
        said, read = (one.decode(ids, clean_up_tokenization_spaces=False) for one in (tokenizer, again))
        if said != read:
            return f"expected {show(said)} for the ids of {show(text)}, found {show(read)}"
    return None
