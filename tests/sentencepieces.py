"""Small sentencepiece tokenizers with the traits of public ones, trained on the spot."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece

from tests.conftest import CORPUS

TEXTS = ["Where is it?", "  two  spaces", "\nWhere", "{unknown} 中文 🐶", " At", "</s>", "a   b  c ", "12.5% [0.1,0.2]"]

WORDS = [
    *CORPUS,
    *("Gone with the wind", "And now what is it", "[INST] Be kind [/INST]", "### Human: ### Assistant:"),
    *("At USER ASSISTANT GPT where the circle stands", "two  spaces   and    more  of   them    here"),
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def train(**options: Any) -> bytes:
    """A sentencepiece model: Llama's settings unless `options` say otherwise."""
    model = io.BytesIO()
    usual = dict(
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        max_sentence_length=10_000,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(WORDS), model_writer=model, **{**usual, **options}
    )
    return model.getvalue()


def save_llama(folder: Path, *, settings: dict[str, Any] | None = None, **options: Any) -> Path:
    """A folder as LLaMA's: `tokenizer.model`, and `settings` (such as `legacy`) in its tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(train(**options))
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, **SPECIAL, **(settings or {})}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def save_t5(folder: Path) -> Path:
    """A folder as T5's: unigram, no byte for an unknown character, the end of sequence behind every text."""
    folder.mkdir(parents=True, exist_ok=True)
    options = dict(model_type="unigram", byte_fallback=False, normalization_rule_name="nmt_nfkc", vocab_size=200)
    ids = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, remove_extra_whitespaces=True)
    (folder / "spiece.model").write_bytes(train(**options, **ids))
    config = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def processor_of(folder: Path) -> Any:
    """The sentencepiece library's own reading of a folder."""
    processor: Any = sentencepiece.SentencePieceProcessor()
    processor.Load(str(folder / "tokenizer.model"))
    return processor
