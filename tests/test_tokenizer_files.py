"""Folders read as the software that wrote them meant them; folders written read back to the same ids."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mllm.errors import ModelError
from mllm.tokenizer_files import PROBE_TEXTS, find_tokenizer, load_tokenizer, token_id
from mllm.tokenizer_saving import save_tokenizer
from tests.conftest import CORPUS
from tests.marks import grid, slow_but
from tests.sentencepieces import TEXTS, processor_of, save_llama, save_t5

REAL = Path(__file__).parents[2] / "shared" / "tokenizers"
END = "<|endoftext|>"


def sections(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"), settings={"legacy": True})


@pytest.fixture(scope="module")
def both(llama: Path) -> tuple[Any, Any]:
    """Our reading, and the sentencepiece library's."""
    return load_tokenizer(llama), processor_of(llama)


@pytest.fixture(scope="module")
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip("needs the shared tokenizers")
    return REAL


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """A byte-level vocabulary that holds numbers and never reads them whole; no class does so by itself."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = words  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[END], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([*["It's 12.5% of 123,456"] * 9, *CORPUS], trainer)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


def without_key(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out, copy_function=shutil.copyfile)
    out.chmod(0o755)
    config = json.loads((out / "tokenizer_config.json").read_text())
    del config["legacy"]
    (out / "tokenizer_config.json").write_text(json.dumps(config))
    return out


@pytest.mark.parametrize("bytewise", [True, False])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_legacy_folder_reads_every_section_as_sentencepiece(tmp_path: Path, bytewise: bool, kind: str) -> None:
    vocab = {} if kind == "bpe" else {"vocab_size": 400 if bytewise else 150}
    folder = save_llama(tmp_path, settings={"legacy": True}, byte_fallback=bytewise, model_type=kind, **vocab)
    tokenizer, truth = load_tokenizer(folder), processor_of(folder)
    for text in TEXTS:
        plain = text.replace("</s>", "x")
        assert sections(tokenizer, plain) == truth.encode(plain), text
        end = tokenizer.eos_token_id
        assert sections(tokenizer, f"At</s>{plain}") == [*truth.encode("At"), end, *truth.encode(plain)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("abcdefgh INST[]<>/.,:0123456789 \n\té中🐶"), max_size=40))
def test_a_legacy_folder_reads_any_text_as_sentencepiece(both: tuple[Any, Any], text: str) -> None:
    tokenizer, truth = both
    assert sections(tokenizer, text) == truth.encode(text)


@pytest.mark.parametrize("model_type", [None, "llama", "mistral", "llava"])
@pytest.mark.parametrize("config", [True, False])
def test_a_sentencepiece_folder_that_names_no_class_is_legacy(
    tmp_path: Path, config: bool, model_type: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_llama(tmp_path)
    kept = json.loads((folder / "tokenizer_config.json").read_text())
    del kept["tokenizer_class"]
    (folder / "tokenizer_config.json").unlink()
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(kept))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    with caplog.at_level(logging.WARNING):
        tokenizer = load_tokenizer(folder)
    assert "legacy is true" in caplog.text
    truth = processor_of(folder)
    for text in TEXTS:
        plain = text.replace("</s>", "x")
        assert sections(tokenizer, plain) == truth.encode(plain), text


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("tokenizer_config.json", {"model_max_length": "x"}, "its tokenizer cannot be read: TypeError"),
        ("config.json", {"model_type": "llama", "num_hidden_layers": "two"}, r"config\.json: cannot be read: .*two"),
        (
            "config.json",
            {"model_type": "llama", "num_attention_heads": 0},
            r"config\.json: cannot be read: ZeroDivision",
        ),
    ],
)
def test_load_tokenizer_names_the_file_that_is_wrong(tmp_path: Path, file: str, change: Any, said: str) -> None:
    folder = save_llama(tmp_path, settings={"legacy": True})
    path = folder / file
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.is_file() else {}), **change}))
    with pytest.raises(ModelError, match=said):
        load_tokenizer(folder)


def test_a_new_folder_puts_a_space_before_the_first_word_only(tmp_path: Path) -> None:
    folder = save_llama(tmp_path, settings={"legacy": False})
    tokenizer, truth = load_tokenizer(folder), processor_of(folder)
    assert sections(tokenizer, "Where is it?") == truth.encode("Where is it?")
    tokens = tokenizer.convert_ids_to_tokens(sections(tokenizer, "At</s>At"))
    assert tokens[0] == "▁At"
    assert not any(token.startswith("▁") for token in tokens[1:])


def test_a_folder_of_2023_without_the_key_is_legacy_and_says_so(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = without_key(llama, tmp_path / "old")
    tokenizer, expected = load_tokenizer(folder), load_tokenizer(llama)
    assert all(sections(tokenizer, f"At</s>{text}") == sections(expected, f"At</s>{text}") for text in TEXTS)
    assert f'{folder / "tokenizer_config.json"}: no "legacy"' in caplog.text
    assert "legacy is true" in caplog.text
    save_tokenizer(tokenizer, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "tokenizer_config.json").read_text())["legacy"] is True


def test_a_folder_that_transformers_5_saved_without_the_key_reads_the_ids_it_was_trained_with(tmp_path: Path) -> None:
    for legacy in (True, False):
        folder = save_llama(tmp_path / f"{legacy}", settings={"legacy": legacy})
        trained = AutoTokenizer.from_pretrained(folder)
        trained.save_pretrained(tmp_path / f"saved {legacy}")  # as earlier versions of this toolkit did
        assert "legacy" not in json.loads((tmp_path / f"saved {legacy}" / "tokenizer_config.json").read_text())
        read = load_tokenizer(tmp_path / f"saved {legacy}")
        assert sections(read, "At</s>At\nIt</s> is") == sections(trained, "At</s>At\nIt</s> is")


def test_tokenizer_json_is_followed_where_the_key_says_otherwise(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Llama 2's public folder: `legacy: false` beside a tokenizer.json that prepends a space to every section."""
    save_tokenizer(load_tokenizer(llama), tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = {**json.loads(path.read_text()), "legacy": False, "tokenizer_class": "LlamaTokenizerFast"}
    path.write_text(json.dumps(config))
    with caplog.at_level(logging.WARNING):
        tokenizer = load_tokenizer(tmp_path)
    stored = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert sections(tokenizer, "At</s>At  x") == stored.encode("At</s>At  x", add_special_tokens=False).ids
    assert "tokenizer.json is followed" in caplog.text


def test_a_t5_folder_reads_as_sentencepiece_and_saves(tmp_path: Path) -> None:
    folder = save_t5(tmp_path / "a")
    tokenizer = load_tokenizer(folder)
    (folder / "tokenizer.model").write_bytes((folder / "spiece.model").read_bytes())
    truth = processor_of(folder)
    for text in ("Where is it?", "two  spaces ", "{unknown} 中文"):
        assert tokenizer(text)["input_ids"] == [*truth.encode(text), tokenizer.eos_token_id]
    save_tokenizer(tokenizer, tmp_path / "b")
    assert load_tokenizer(tmp_path / "b")("It {is} </s> it")["input_ids"] == tokenizer("It {is} </s> it")["input_ids"]


def test_load_tokenizer_refuses_a_tokenizer_written_in_python(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    with pytest.raises(ModelError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: tokenizer_class: expected a tokenizer of the tokenizers library")
    assert str(caught.value).endswith("found ByT5Tokenizer")


def test_token_id_knows_words_and_added_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert token_id(tokenizer, "</s>") == tokenizer.eos_token_id
    assert token_id(tokenizer, "<no such token>") is None
    tokenizer.add_tokens(["<new>"])
    assert token_id(tokenizer, "<new>") == len(tokenizer) - 1


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    assert find_tokenizer(tmp_path) is None
    with pytest.raises(ModelError, match="no such folder"):
        load_tokenizer(tmp_path / "none")


@pytest.mark.parametrize(
    "name", slow_but(["mistral_v3_spm"], ["llama2_spm_legacy", "vicuna_spm_nonlegacy", "mistral_v3_spm"])
)
def test_real_sentencepiece_folders_read_as_sentencepiece(real: Path, tmp_path: Path, name: str) -> None:
    tokenizer, truth = load_tokenizer(real / name), processor_of(real / name)
    for text in TEXTS:
        plain = text.replace("</s>", "x")
        if name == "llama2_spm_legacy" or not plain.startswith(" "):
            assert sections(tokenizer, plain) == truth.encode(plain), text
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    for text in (*TEXTS, "<s>A<image>\nIt</s> is</s>USER: {} 中文"):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize(
    "name",
    [pytest.param("llama3", marks=pytest.mark.slow), pytest.param("qwen3", marks=pytest.mark.slow), "neox", "gpt2"],
)
def test_real_byte_level_folders_survive(real: Path, tmp_path: Path, name: str) -> None:
    tokenizer = load_tokenizer(real / name)
    tokenizer.add_tokens(["<image>", *(f"<loc_{number}>" for number in range(1000))], special_tokens=True)
    save_tokenizer(tokenizer, tmp_path, probes=["USER: <image>\n<loc_7>"])
    again = load_tokenizer(tmp_path)
    assert (
        again("USER: <image>\n<loc_7> {} 中文")["input_ids"] == tokenizer("USER: <image>\n<loc_7> {} 中文")["input_ids"]
    )
    assert again.chat_template == tokenizer.chat_template


def test_a_folder_of_a_model_of_ours_is_read_without_a_warning(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_tokenizer(load_tokenizer(llama), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    logging.getLogger("transformers").propagate = True
    try:
        load_tokenizer(tmp_path)
    finally:
        logging.getLogger("transformers").propagate = False
    assert not caplog.text


def named(folder: Path, **changes: Any) -> Path:
    """The folder, whose tokenizer_config.json says something else."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("name", ["BertTokenizer", "T5Tokenizer", "XLMRobertaTokenizer", "AlbertTokenizer", 7])
def test_a_class_that_makes_another_vocabulary_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, name: Any
) -> None:
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"tokenizer_class: expected|its tokenizer cannot be read"):
        load_tokenizer(named(tmp_path, tokenizer_class=name))


BYTE_LEVEL = ("GPT2Tokenizer", "CLIPTokenizer", "WhisperTokenizer", "Qwen2Tokenizer")


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_tokenizer_json_is_followed_where_a_class_would_split_text_otherwise(
    byte_level: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    byte_level.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": name, "eos_token": END, "bos_token": END, "unk_token": END, "pad_token": END}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(tmp_path)
    assert f"tokenizer_config.json: tokenizer_class {name} would split text otherwise" in caplog.text
    for text in (*TEXTS, *PROBE_TEXTS):
        assert tokenizer(text)["input_ids"] == byte_level.encode(text).ids, text
    save_tokenizer(tokenizer, tmp_path / "saved")
    caplog.clear()
    assert load_tokenizer(tmp_path / "saved")("It's 12,345")["input_ids"] == byte_level.encode("It's 12,345").ids
    assert not caplog.text


@pytest.mark.parametrize(("family", "name"), grid(["gpt2", "neox", "qwen3"], [*BYTE_LEVEL]))
def test_a_real_tokenizer_json_is_followed_whatever_class_is_named(
    real: Path, tmp_path: Path, family: str, name: str
) -> None:
    source: Any = load_tokenizer(real / family)
    source.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    shutil.copyfile(real / family / "tokenizer_config.json", tmp_path / "tokenizer_config.json")
    written = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    end = source.eos_token
    read = load_tokenizer(named(tmp_path, tokenizer_class=name, bos_token=end, unk_token=end, pad_token=end))
    for text in (*TEXTS, *PROBE_TEXTS):
        assert read(text)["input_ids"] == written.encode(text).ids, text


@pytest.mark.parametrize("name", ["eos_token", "bos_token", "pad_token", "unk_token", "sep_token"])
def test_a_special_token_outside_the_vocabulary_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, name: str
) -> None:
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"{name}: expected a token of the vocabulary, found str '<zzz>'"):
        load_tokenizer(named(tmp_path, **{name: "<zzz>"}))


def test_a_special_token_that_another_file_lists_is_taken(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<zzz>": len(tokenizer)}))
    assert load_tokenizer(named(tmp_path, pad_token="<zzz>")).pad_token == "<zzz>"


def test_another_tokenizer_in_a_folder_of_ours_is_noticed(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """All ids one further, as of a vocabulary with a token before the others: no token is missing."""
    save_tokenizer(tokenizer, tmp_path)
    path = tmp_path / "tokenizer.json"
    found = json.loads(path.read_text())
    model = found["model"]
    last = max(model["vocab"].values())
    special = {token["content"] for token in found["added_tokens"]}
    words = sorted((word for word in model["vocab"] if word not in special), key=model["vocab"].get)
    moved = dict(zip(words, [model["vocab"][word] for word in [*words[1:], words[0]]], strict=True))
    model["vocab"] |= moved
    assert max(model["vocab"].values()) == last
    path.write_text(json.dumps(found))
    with pytest.raises(ModelError, match=r"tokenizer: expected for str .* the ids that mllm_tokens.json lists"):
        load_tokenizer(tmp_path)
