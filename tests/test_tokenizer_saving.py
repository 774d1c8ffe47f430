"""What is saved reads back to the same ids, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mllm.errors import ModelError
from mllm.tokenizer_files import load_tokenizer
from mllm.tokenizer_saving import save_tokenizer
from tests.sentencepieces import TEXTS, save_llama


def test_a_code_llama_is_saved(tmp_path: Path) -> None:
    """It takes a text apart where its fill token stands."""
    folder = save_llama(tmp_path / "a", settings={"tokenizer_class": "CodeLlamaTokenizer"})
    tokenizer = load_tokenizer(folder)
    save_tokenizer(tokenizer, tmp_path / "b")
    assert load_tokenizer(tmp_path / "b")(TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]


@pytest.mark.parametrize("legacy", [True, False, None])
def test_what_is_saved_reads_back(tmp_path: Path, legacy: bool | None) -> None:
    folder = save_llama(tmp_path / "a", settings={} if legacy is None else {"legacy": legacy})
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["<image>", "<loc_1>"], special_tokens=True)
    save_tokenizer(tokenizer, tmp_path / "b")
    save_tokenizer(load_tokenizer(tmp_path / "b"), tmp_path / "c")
    for text in (*TEXTS, "<s>At<image>\nIt</s> is  <loc_1>it</s>"):
        expected = tokenizer(text)["input_ids"]
        for out in ("b", "c"):
            assert load_tokenizer(tmp_path / out)(text)["input_ids"] == expected
            assert AutoTokenizer.from_pretrained(tmp_path / out)(text)["input_ids"] == expected


def test_a_class_that_rebuilds_itself_is_saved_as_the_generic_one(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "Ġ": 2, "A": 3, "<|endoftext|>": 4}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    tokenizer: Any = load_tokenizer(tmp_path)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    save_tokenizer(tokenizer, tmp_path / "out", probes=["AaB"])  # of this vocabulary, no other probe has a letter
    assert load_tokenizer(tmp_path / "out")("AaB")["input_ids"] == tokenizer("AaB")["input_ids"] == [0, 0, 1]


class Forgetful(PreTrainedTokenizerFast):
    """Writes another pre-tokenizer than it uses."""

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> Any:
        kept, self.backend_tokenizer.pre_tokenizer = self.backend_tokenizer.pre_tokenizer, pre_tokenizers.Whitespace()
        super().save_pretrained(save_directory, *args, **options)
        self.backend_tokenizer.pre_tokenizer = kept


def test_what_does_not_read_back_is_an_error_that_names_the_text(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    forgetful = Forgetful(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    with pytest.raises(ModelError) as caught:
        save_tokenizer(forgetful, tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path}: the Forgetful differs after saving and loading: expected the tokens"
    )
    assert "Hello world" in str(caught.value)
    assert "\n" not in str(caught.value)
