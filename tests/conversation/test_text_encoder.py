"""Ids as the published recipes give them, on every kind of tokenizer; what users write survives letter by letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mllm.conversation.rendering import IGNORE, RenderedTurn, TextSpan, tokenize
from mllm.conversation.text_encoder import Start, encoder_of
from mllm.errors import ConfigError
from mllm.registry import TEMPLATES
from mllm.tokenizer_files import load_tokenizer
from mllm.types import IMAGE
from tests.conftest import make_tokenizer
from tests.marks import grid
from tests.sentencepieces import save_llama, save_t5

REAL = Path(__file__).parents[3] / "shared" / "tokenizers"
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
TURNS = [
    RenderedTurn("human", (TextSpan(IMAGE), TextSpan("\nWhere is it?", literal=True))),
    RenderedTurn("gpt", (TextSpan("At [0.123,0.456]."),)),
    RenderedTurn(
        "human",
        (TextSpan("And {now} in ", literal=True), TextSpan(IMAGE), TextSpan(" or", literal=True), TextSpan(IMAGE)),
    ),
    RenderedTurn("gpt", (TextSpan("Gone é中🐶", literal=True),)),
]
KINDS = {
    "legacy": {"legacy": True},
    "new": {"legacy": False},
    "silent": {},
    "no prefix": {"legacy": False, "add_prefix_space": False},
}


def recipe(text: str, tokenizer: Any, image: int) -> list[int]:
    """LLaVA's: the parts between images are tokenized one by one, with the BOS of the first alone kept."""
    ids: list[int] = []
    for number, part in enumerate(text.split(IMAGE)):
        new = tokenizer(part)["input_ids"]
        begins = tokenizer.bos_token_id is not None and new[:1] == [tokenizer.bos_token_id]
        ids += [image, *new[begins:]] if number else new
    return ids


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("llama")
    made = {kind: save_llama(folder / kind, settings=said) for kind, said in KINDS.items()}
    make_tokenizer().save_pretrained(folder / "bytes")
    return {**made, "bytes": folder / "bytes"}


def check_recipe(folder: Path, template: str) -> None:
    tokenizer = plain = cached(folder)  # the recipe never shows it an image
    image: Any = tokenizer.convert_tokens_to_ids(IMAGE)
    if template in ("llama2", "mistral"):
        tokenizer.chat_template = LLAMA2 if template == "llama2" else MISTRAL
    arrange = TEMPLATES.make("chat" if template in ("llama2", "mistral") else template)
    for count in range(1, len(TURNS) + 1):
        pieces = arrange.render(TURNS[:count], tokenizer)
        text = "".join(piece.text for piece in pieces)
        begun = tokenizer.bos_token is not None and text.startswith(str(tokenizer.bos_token))
        adds = plain("a")["input_ids"][0] == plain.bos_token_id
        text = text.removeprefix(str(plain.bos_token)) if begun and adds else text
        assert tokenize(pieces, tokenizer, image=image)[0] == recipe(text, plain, image), text


@pytest.mark.parametrize("template", ["vicuna_v1", "llava_v0", "llama2", "mistral"])
@pytest.mark.parametrize("kind", [*KINDS, "bytes"])
def test_ids_are_those_of_the_published_recipe(folders: dict[str, Path], kind: str, template: str) -> None:
    check_recipe(folders[kind], template)


@pytest.mark.parametrize(
    ("name", "template"),
    grid(
        ["llama2_spm_legacy", "vicuna_spm_nonlegacy", "mistral_v3_spm", "gpt2", "neox", "llama3", "qwen3"],
        ["vicuna_v1", "llava_v0", "llama2", "mistral"],
    ),
)
def test_ids_are_those_of_the_published_recipe_with_real_tokenizers(name: str, template: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip("needs the shared tokenizers")
    if name == "qwen3" and template in ("llama2", "mistral"):
        pytest.skip("has no BOS to write")
    check_recipe(REAL / name, template)


def test_the_first_word_behind_bos_keeps_its_space(folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["new"])
    ids, _ = tokenize([TextSpan("<s>"), TextSpan("At USER")], tokenizer)
    assert tokenizer.convert_ids_to_tokens(ids)[:2] == ["<s>", "▁At"]
    assert ids == tokenizer("At USER")["input_ids"]


def test_a_later_bos_is_read_as_the_tokenizer_reads_it(folders: dict[str, Path]) -> None:
    for kind in ("legacy", "new"):
        tokenizer = load_tokenizer(folders[kind])
        ids, _ = tokenize([TextSpan("At</s><s>At")], tokenizer)
        assert ids == tokenizer("At</s><s>At", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", [*KINDS, "bytes"])
@pytest.mark.parametrize("words", ["</s>", "say </s> now", "<s>", "[INST] <image> </s></s>", "a<unk>b", "<image>\n"])
def test_special_tokens_in_words_are_spelled_out(folders: dict[str, Path], kind: str, words: str) -> None:
    tokenizer = load_tokenizer(folders[kind])
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    pieces = [
        TextSpan("USER: "),
        TextSpan(words, literal=True),
        TextSpan(" ASSISTANT:"),
        TextSpan(f" {words}", True, literal=True),
    ]
    ids, labels = tokenize(pieces, tokenizer)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    assert not special & set(ids)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == f"USER: {words} ASSISTANT: {words}"
    said = [label for label in labels if label != IGNORE]
    assert tokenizer.decode(said, clean_up_tokenization_spaces=False).strip() == words.strip()


LETTERS = st.sampled_from(
    [*list("abcdeAt US:[]<>/\\{}012.,'\"\n\t éß中🐶|_#"), "</s>", "<s>", "<image>", "<unk>", " the"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(words=st.lists(LETTERS, min_size=1, max_size=12).map("".join), before=st.sampled_from(["USER: ", "</s>", ":"]))
@example(words="</s>", before="</s>")
def test_words_survive_letter_by_letter(folders: dict[str, Path], words: str, before: str) -> None:
    for kind in ("new", "no prefix", "legacy", "bytes"):
        tokenizer = cached(folders[kind])
        ids, _ = tokenize([TextSpan(f"x{before}"), TextSpan(words, literal=True), TextSpan("|", True)], tokenizer)
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        # a legacy folder says a space behind every special token, as it always did
        gained = " " if kind == "legacy" and before == "</s>" else ""
        assert text == f"x{before}{gained}{words}|"


READ: dict[Path, Any] = {}


def cached(folder: Path) -> Any:
    if folder not in READ:
        READ[folder] = load_tokenizer(folder)
        READ[folder].add_tokens([IMAGE], special_tokens=True)
    return READ[folder]


def test_an_unknown_character_is_one_token(tmp_path: Path) -> None:
    t5 = load_tokenizer(save_t5(tmp_path / "t5"))
    llama = load_tokenizer(save_llama(tmp_path / "llama", settings={"legacy": True}, byte_fallback=False))
    for tokenizer in (t5, llama):
        text = "Where {is} 中 it?"
        ids, _ = tokenize([TextSpan(text, literal=True)], tokenizer)
        assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id in ids


@pytest.mark.parametrize("response", ["### Response:\n", "A: ", "A:\n\n", "A:  ", "A", "A:\t"])
@pytest.mark.parametrize("answer", ["Gone", " Gone", "\nGone", "  Gone", "12", "\n\n"])
def test_a_prompt_is_the_beginning_of_its_row(folders: dict[str, Path], response: str, answer: str) -> None:
    template = TEMPLATES.make({"type": "instruction", "instruction": "Q: ", "response": response, "separator": "\n\n"})
    said = RenderedTurn("gpt", (TextSpan(answer, literal=True),))
    turns = [TURNS[0], said, TURNS[2], said]
    for folder in folders.values():
        tokenizer = cached(folder)
        image = tokenizer.convert_tokens_to_ids(IMAGE)
        whole, labels = tokenize(template.render(turns, tokenizer), tokenizer, image=image)
        for asked in (1, 3):
            prompt, _ = tokenize(template.render(turns[:asked], tokenizer), tokenizer, image=image)
            assert whole[: len(prompt)] == prompt
            assert labels[len(prompt)] != IGNORE
        said_ids = [label for label in labels if label != IGNORE]
        text = tokenizer.decode(whole, clean_up_tokenization_spaces=False)
        assert f"{response}{answer}</s>" in text
        assert said_ids.count(tokenizer.eos_token_id) == 2


def test_a_tokenizer_without_an_end_of_sequence_is_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    for name in ("vicuna_v1", "completion", "seq2seq", "guanaco"):
        with pytest.raises(ConfigError, match=r"tokenizer_config\.json: eos_token: .*; the tokenizer has no"):
            TEMPLATES.make(name).end(tokenizer)


@pytest.mark.parametrize("text", ["red </s> dog", "</s>", "<pad> red", "a</s></s>b <pad>"])
@pytest.mark.parametrize("letters", ["", "</>pads"])
def test_a_special_token_that_is_a_word_of_the_vocabulary_too_is_spelled_out(text: str, letters: str) -> None:
    """As in T5's, whose unigram model knows no bytes."""
    words = ["<pad>", "</s>", "<unk>", "▁", "▁red", "▁dog", "▁a", "b", *letters]
    backend = Tokenizer(models.Unigram([(word, -float(n)) for n, word in enumerate(words)], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    ids = encoder_of(tokenizer)(text, "text")
    assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & {*ids}
    if letters:
        assert tokenizer.unk_token_id not in ids


def test_token_at_end_is_the_added_token_that_a_text_ends_in() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<end>", "<end>>"])
    encoder, ids = encoder_of(tokenizer), tokenizer.get_vocab()
    for text, token in (("a</s>", "</s>"), ("</s>a<s>", "<s>"), ("a<end>", "<end>"), ("a<end>>", "<end>>")):
        assert encoder.token_at_end(text) == ids[token]
    tokenizer.add_tokens(["end>>"])
    for longest in ("<end>>", "end>>"):
        assert encoder_of(tokenizer).token_at_end(f"a {longest}") == tokenizer.get_vocab()[longest]
    for text in ("a", "", "</s>a", "<end>a"):
        assert encoder.token_at_end(text) is None


def test_marks_are_the_special_tokens_alone_with_the_white_space_that_they_take() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<plain>"])
    tokenizer.add_tokens([AddedToken("<wide>", lstrip=True, rstrip=True, special=True)], special_tokens=True)
    encoder, ids = encoder_of(tokenizer), tokenizer.get_vocab()
    text = "a <wide>  b </s> <plain>"
    assert list(encoder.marks(text)) == [(1, 10, ids["<wide>"]), (12, 16, ids["</s>"])]
    assert list(encoder.split(text)) == [("a", ids["<wide>"]), ("b ", ids["</s>"]), (" <plain>", None)]


def test_texts_are_neither_cut_nor_filled(folders: dict[str, Path]) -> None:
    for kind in ("bytes", "new"):
        tokenizer = load_tokenizer(folders[kind])
        starts: tuple[Start, ...] = ("text", "middle")
        whole = [encoder_of(tokenizer)("the red circle", start) for start in starts]
        told = load_tokenizer(folders[kind])
        told.backend_tokenizer.enable_truncation(2)
        told.backend_tokenizer.enable_padding(length=50)
        assert [encoder_of(told)("the red circle", start) for start in starts] == whole


def test_special_tokens_are_obeyed_again_behind_words_that_spell_one_out() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer.eos_token_id not in encoder_of(tokenizer)("a </s>", "text")
    assert tokenizer.backend_tokenizer.encode("</s>", add_special_tokens=False).ids == [tokenizer.eos_token_id]


def unigram(pre_tokenizer: Any, *words: str, **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of these words and the letters A, t, x."""
    vocabulary = ["<unk>", *special.values(), *"Atx\u2581\u0120", *words]
    backend = Tokenizer(models.Unigram([(word, -float(len(word) == 1)) for word in vocabulary], unk_id=0))
    backend.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **special)


METASPACE, GPT2 = "\u2581", "\u0120"


@pytest.mark.parametrize(
    ("pre_tokenizer", "text", "middle"),
    [
        (pre_tokenizers.Metaspace(), [f"{METASPACE}At", f"{METASPACE}At"], ["At", f"{METASPACE}At"]),
        (pre_tokenizers.Metaspace(split=False), [f"{METASPACE}At{METASPACE}At"], [f"At{METASPACE}At"]),
        (
            pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.Metaspace()]),
            [f"{METASPACE}At", f"{METASPACE}At"],
            ["At", f"{METASPACE}At"],
        ),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), [f"{GPT2}At", f"{GPT2}At"], ["At", f"{GPT2}At"]),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), ["At", f"{GPT2}At"], ["At", f"{GPT2}At"]),
    ],
)
def test_a_fragment_in_the_middle_gets_no_space_of_any_pre_tokenizer(
    pre_tokenizer: Any, text: list[str], middle: list[str]
) -> None:
    words = ["At", *(f"{space}At" for space in (METASPACE, GPT2))]
    tokenizer = unigram(pre_tokenizer, *words, f"{METASPACE}At{METASPACE}At", f"At{METASPACE}At")
    encoder = encoder_of(tokenizer)
    starts: tuple[Start, ...] = ("text", "middle")
    assert [tokenizer.convert_ids_to_tokens(encoder("At At", start)) for start in starts] == [text, middle]


def test_a_fragment_is_a_text_to_a_tokenizer_that_drops_the_white_space_between_words() -> None:
    """As T5's: in it a word cannot go on."""
    t5 = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    encoder = encoder_of(unigram(t5, "At", f"{METASPACE}At"))
    assert encoder("At  At", "middle") == encoder("At At", "text")


def test_a_tokenizer_may_know_neither_the_letter_a_nor_a_beginning() -> None:
    backend = Tokenizer(models.BPE({"<s>": 0, "x": 1}, []))
    encoder = encoder_of(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>"))
    assert (encoder("xax", "text"), encoder.adds_bos) == ([1, 1], False)


def test_a_fragment_is_read_by_where_it_begins(folders: dict[str, Path]) -> None:
    for kind, spaced in (("legacy", ["text", "special"]), ("new", ["text"]), ("bytes", [])):
        tokenizer = load_tokenizer(folders[kind])
        encoder = encoder_of(tokenizer)
        starts: tuple[Start, ...] = ("text", "special", "middle")
        first = {start: tokenizer.convert_ids_to_tokens(encoder("At", start))[0] for start in starts}
        assert [start for start, token in first.items() if token.startswith("\u2581")] == spaced


def test_a_bos_is_added_where_the_tokenizer_adds_one(folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["new"])
    assert encoder_of(tokenizer).adds_bos
    assert encoder_of(tokenizer).bos == tokenizer.bos_token_id
    unused = unigram(pre_tokenizers.Metaspace(), bos_token="<s>")
    assert (encoder_of(unused).adds_bos, encoder_of(unused).bos) == (False, unused.bos_token_id)
    without = make_tokenizer()
    without.bos_token = None  # type: ignore[assignment]
    assert not encoder_of(without).adds_bos
