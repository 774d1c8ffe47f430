"""Golden prompts: what each template renders, and exactly which text is supervised."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mllm.conversation.rendering import (
    IGNORE,
    RenderedTurn,
    TextSpan,
    beginning_of_sequence,
    images_first,
    start_behind,
    tokenize,
    written_turn,
)
from mllm.errors import ConfigError, DataError
from mllm.records import read_item
from mllm.registry import TEMPLATES
from mllm.types import Turn
from tests.conversation.processors import make_processor
from tests.conversation.rendered import marked

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = [
    RenderedTurn("human", (TextSpan("<image>"), TextSpan("\nWhere is it?", literal=True))),
    RenderedTurn("gpt", (TextSpan("At "), TextSpan("[0.1,0.2]"))),
    RenderedTurn("human", (TextSpan("And {now}?", literal=True),)),
    RenderedTurn("gpt", (TextSpan("Gone", literal=True),)),
]
GOLDEN = {
    "vicuna_v1": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nWhere is it? ASSISTANT:"
        "« At [0.1,0.2]</s>»USER: And {now}? ASSISTANT:« Gone</s>»"
    ),
    "llava_v0": (
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the human's questions.\n\n### Human: <image>\nWhere is it?\n### Assistant:"
        "« At [0.1,0.2]\n###» Human: And {now}?\n### Assistant:« Gone\n###»"
    ),
    "completion": "<image>\nWhere is it?«At [0.1,0.2]</s>»And {now}?«Gone</s>»",
    "plain": "<image>«At [0.1,0.2]\n»«Gone\n»",
    "otter": (
        "<image>User:Where is it? GPT:<answer>«At [0.1,0.2]<|endofchunk|>»"
        "User:And {now}? GPT:<answer>«Gone<|endofchunk|></s>»"
    ),
    "seq2seq": "<image>\nWhere is it?\nAt [0.1,0.2]\nAnd {now}?</s>«Gone</s>»",
    "openflamingo": "<image>Output:«At [0.1,0.2]<|endofchunk|>»Output:«Gone<|endofchunk|></s>»",
    "guanaco": (
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions.\n### Human: <image>\nWhere is it?\n### Assistant: "
        "«At [0.1,0.2]</s>»\n### Human: And {now}?\n### Assistant: «Gone</s>»"
    ),
    "guanaco-no-prompt": (
        "### Human: <image>\nWhere is it?\n### Assistant: «At [0.1,0.2]</s>»"
        "\n### Human: And {now}?\n### Assistant: «Gone</s>»"
    ),
    "chat": (
        "<|im_start|>user\n<image>\nWhere is it?<|im_end|>\n<|im_start|>assistant\n«At [0.1,0.2]<|im_end|>»\n"
        "<|im_start|>user\nAnd {now}?<|im_end|>\n<|im_start|>assistant\n«Gone<|im_end|>»\n"
    ),
}

OPTIONS: dict[str, tuple[dict[str, str], str]] = {
    "openflamingo question": (
        {"type": "openflamingo", "prompt": "Question:{question} Short answer:"},
        "<image>Question:Where is it? Short answer:«At [0.1,0.2]<|endofchunk|>»"
        "Question:And {now}? Short answer:«Gone<|endofchunk|></s>»",
    ),
    "openflamingo pretraining": (
        {"type": "openflamingo", "prompt": ""},
        "<image>«At [0.1,0.2]<|endofchunk|>»«Gone<|endofchunk|></s>»",
    ),
    "instruction": (
        {"type": "instruction", "instruction": "### Instruction:\n", "response": "\n\n### Response:\n"},
        "### Instruction:\n<image>\nWhere is it?\n\n### Response:\n«At [0.1,0.2]</s>»"
        "### Instruction:\nAnd {now}?\n\n### Response:\n«Gone</s>»",
    ),
    "instruction in all its parts": (
        {"type": "instruction", "system": "Be kind. ", "instruction": "[", "response": "] ", "end": "\n;"}
        | {"separator": "|"},
        "Be kind. [<image>\nWhere is it?] «At [0.1,0.2]\n;»|[And {now}?] «Gone\n;»",
    ),
}


def chat_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<|endofchunk|>", "<answer>"], special_tokens=True)
    tokenizer.chat_template = CHATML
    return tokenizer


def llama_like() -> PreTrainedTokenizerFast:
    """Unigram with the `▁` convention and a BOS, as Llama's and T5's tokenizers have."""
    letters = sorted(set("".join(GOLDEN.values())) - set(" «»"))
    words = ["▁Where", "▁is", "▁it", "▁At", "▁USER", "▁ASSISTANT", "▁Gone", "▁"]
    vocab = [
        ("<unk>", 0.0),
        ("<s>", 0.0),
        ("</s>", 0.0),
        *((word, -1.0) for word in words),
        *((x, -5.0) for x in letters),
    ]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    fast.add_tokens(["<image>"], special_tokens=True)
    return chat_tokenizer(fast)


@pytest.fixture(params=["bytes", "sentencepiece"])
def any_tokenizer(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return chat_tokenizer(tokenizer) if request.param == "bytes" else llama_like()


@pytest.mark.parametrize("name", GOLDEN)
def test_template_renders_and_supervises(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = TEMPLATES.make(name).render(TURNS, chat_tokenizer(tokenizer))
    assert marked(pieces).replace("»«", "") == GOLDEN[name].replace("»«", "")


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_templates(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    cfg, expected = OPTIONS[name]
    assert marked(TEMPLATES.make(cfg).render(TURNS, tokenizer)).replace("»«", "") == expected.replace("»«", "")


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": "instruction", "instruction": "Q", "response": " "}, "response: expected some words, found str ' '"),
        (
            {"type": "instruction", "instruction": "Q", "response": "A", "end": ""},
            "end: expected at least one sign",
        ),
        (
            {"type": "openflamingo", "prompt": "{question}{question}"},
            "prompt: expected a text with {question} in it",
        ),
    ],
)
def test_options_that_make_no_template(cfg: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TEMPLATES.make(cfg)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", GOLDEN)
def test_labels_cover_the_supervised_text_in_every_turn(name: str, any_tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = TEMPLATES.make(name).render(TURNS, any_tokenizer)
    ids, labels = tokenize(pieces, any_tokenizer)
    assert len(ids) == len(labels)
    assert all(label in (IGNORE, token) for token, label in zip(ids, labels, strict=True))
    supervised: Any = any_tokenizer.decode([label for label in labels if label != IGNORE])
    expected = "".join(piece.text for piece in pieces if piece.supervised)
    assert supervised.replace(" ", "") == expected.replace(" ", "")


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("answer", ["Gone", " Gone", "\n\nGone", "[0.1]", "."])
def test_a_prompt_has_the_same_ids_alone_and_before_its_answer(
    name: str, answer: str, any_tokenizer: PreTrainedTokenizerFast
) -> None:
    template = TEMPLATES.make(name)
    turns = [*TURNS[:3], RenderedTurn("gpt", (TextSpan(answer, literal=True),))]
    prompt, _ = tokenize(template.render(turns[:3], any_tokenizer), any_tokenizer)
    whole, labels = tokenize(template.render(turns, any_tokenizer), any_tokenizer)
    assert whole[: len(prompt)] == prompt
    assert labels[len(prompt)] != IGNORE


def test_a_whole_prompt_is_tokenized_as_the_model_knows_it(tokenizer: PreTrainedTokenizerFast) -> None:
    """No cut between pieces may change the ids: the text is read as one."""
    pieces = TEMPLATES.make("vicuna_v1").render(TURNS, tokenizer)
    text = "".join(piece.text for piece in pieces)
    assert tokenize(pieces, tokenizer)[0] == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_special_tokens_in_user_text_are_spelled_out(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = [TextSpan("say </s> <image>", literal=True), TextSpan("</s>", supervised=True)]
    ids, labels = tokenize(pieces, tokenizer)
    assert sum(token == tokenizer.eos_token_id for token in ids) == 1
    assert tokenizer.convert_tokens_to_ids("<image>") not in ids
    assert tokenizer.decode(ids) == "say </s> <image></s>"
    assert [label for label in labels if label != IGNORE] == [tokenizer.eos_token_id]


def test_bos_comes_first_where_the_tokenizer_adds_one() -> None:
    tokenizer = llama_like()
    ids, _ = tokenize(TEMPLATES.make("vicuna_v1").render(TURNS, tokenizer), tokenizer)
    assert ids[0] == tokenizer.bos_token_id
    assert sum(token == tokenizer.bos_token_id for token in ids) == 1


def test_chat_needs_a_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        TEMPLATES.make("chat").render(TURNS, tokenizer)


SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def test_a_chat_template_that_speaks_of_images_writes_them_itself(tokenizer: PreTrainedTokenizerFast) -> None:
    chat_tokenizer(tokenizer).chat_template = SMOLVLM
    pieces = TEMPLATES.make("chat").render(TURNS, tokenizer)
    # the space that the template writes before an answer, but not before one to be generated, is the answer's
    assert marked(pieces).replace("»«", "") == (
        "<|im_start|>User:<image>Where is it?<|im_end|>\nAssistant:« At [0.1,0.2]<|im_end|>»\n"
        "User: And {now}?<|im_end|>\nAssistant:« Gone<|im_end|>»\n"
    )
    asked = [
        RenderedTurn(
            "human", (TextSpan("Is "), TextSpan("<image>"), TextSpan("\nlike "), TextSpan("<image>"), TextSpan("?"))
        )
    ]
    assert marked(TEMPLATES.make("chat").render(asked, tokenizer)) == (
        "<|im_start|>User: Is <image>like <image>?<|im_end|>\nAssistant:"
    )


def test_whether_a_chat_template_takes_parts_can_be_said(tokenizer: PreTrainedTokenizerFast) -> None:
    chat_tokenizer(tokenizer).chat_template = "{# of no image #}" + CHATML
    assert marked(TEMPLATES.make({"type": "chat", "parts": False}).render(TURNS[:1], tokenizer)) == (
        "<|im_start|>user\n<image>\nWhere is it?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("paligemma", "<image><s>Where is it?\n«At [0.1,0.2]</s>»"),
        ("kosmos2", "<s><image> <grounding><phrase> Where is it?</phrase>«At [0.1,0.2]</s>»"),
        (
            {"type": "kosmos2", "form": "question"},
            "<s><image> <grounding> Question: Where is it? Answer:«At [0.1,0.2]</s>»",
        ),
        ({"type": "kosmos2", "form": "words"}, "<s><image> <grounding> Where is it?«At [0.1,0.2]</s>»"),
        ("florence2", "<image><s>Where is it?</s>«<s>At [0.1,0.2]</s>»"),
        ("blip2", "<image>Where is it?« At [0.1,0.2]</s>»"),
    ],
)
def test_formats_of_one_question(tokenizer: PreTrainedTokenizerFast, template: Any, expected: str) -> None:
    made = TEMPLATES.make(template)
    assert marked(made.render(TURNS[:2], tokenizer)).replace("»«", "") == expected
    assert marked(made.render(TURNS[:1], tokenizer)) == expected[: expected.index("«")]
    with pytest.raises(ConfigError, match="expected one question and its answer, found 4 turns"):
        made.render(TURNS, tokenizer)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("<OD>", "Locate the objects with category name in the image."),
        ("<OPEN_VOCABULARY_DETECTION> a dog", "Locate a dog in the image."),
        ("<WHERE> a dog", "<WHERE> a dog"),
    ],
)
def test_a_task_token_of_florence2_stands_for_its_prompt(
    tokenizer: PreTrainedTokenizerFast, words: str, expected: str
) -> None:
    asked = RenderedTurn("human", (TextSpan("<image>"), TextSpan(words, literal=True)))
    assert marked(TEMPLATES.make("florence2").render([asked], tokenizer)) == f"<image><s>{expected}</s>"


def test_what_formats_of_one_image_refuse(tokenizer: PreTrainedTokenizerFast) -> None:
    two, behind = (TextSpan("<image>"), TextSpan("<image>")), (TextSpan("<OD> a dog", literal=True),)
    for template, pieces, message in (
        ("florence2", two, "expected one image, found 2"),
        ("blip2", two, "expected one image, found 2"),
        ("florence2", behind, "expected nothing behind <OD>, found 'a dog'"),
    ):
        with pytest.raises(ConfigError, match=message):
            TEMPLATES.make(template).render([RenderedTurn("human", pieces)], tokenizer)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("asked", ["<image>\nWhere?", "<image>"])
def test_a_candidate_has_the_tokens_that_training_supervises(
    name: str, asked: str, any_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Behind words or a special token, and behind an image, where the template lets an answer follow it."""
    processor = make_processor(any_tokenizer, template=name)
    for text in ("Gone", "At it", "[0.1]"):
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": text}]
        item = read_item({"image": Image.new("RGB", (8, 8)), "conversations": turns}, key="a")
        tokens = processor.tokens(item)
        (found,) = processor.answer_ids(item, [text])
        supervised = [label for label in tokens.labels if label != IGNORE]
        assert found
        assert supervised[: len(found)] == found
        ended, _ = tokenize([TextSpan(processor.stop, supervised=True)], any_tokenizer, start="middle")
        assert supervised[len(found) :][: len(ended)] == ended
        prompt = processor.tokens(item, answer=False).ids
        assert tokens.ids[: len(prompt)] + found == tokens.ids[: len(prompt) + len(found)]
    with pytest.raises(DataError, match=r"a: expected words to rank, found str ''"):
        processor.answer_ids(item, [""])


def test_what_is_not_supervised_is_skipped_by_the_cross_entropy_of_pytorch() -> None:
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORE


def test_written_turn_puts_groups_and_the_names_of_images_in_their_places() -> None:
    turn = Turn(
        role="human",
        text="<image>A<boxes> and <points>,<boxes><image>",
        boxes_seq=((0, 1), ()),
        points_seq=((2,),),
    )
    leads = iter(["one: ", "", "three: "])
    pieces = written_turn(turn, lambda placeholder, group: f"{placeholder}{[*group]}", "nowhere", leads)
    assert pieces == [
        TextSpan("one: ", lead=True),
        TextSpan("<image>"),
        TextSpan("A", literal=True),
        TextSpan("<boxes>[0, 1]"),
        TextSpan(" and ", literal=True),
        TextSpan("<points>[2]"),
        TextSpan(",", literal=True),
        TextSpan("nowhere"),
        TextSpan("<image>"),
    ]
    assert list(leads) == ["three: "]


def test_images_first_takes_images_with_their_names_and_no_words() -> None:
    name, image, box = TextSpan("one: ", lead=True), TextSpan("<image>"), TextSpan("[0.1,0.2]")
    said = TextSpan("<image>", literal=True)
    turn = RenderedTurn("human", (TextSpan("  See ", literal=True), name, image, box, said, TextSpan(" .\n")))
    words = [TextSpan("See ", literal=True), box, said, TextSpan(" .")]
    assert images_first(turn) == ([name, image], words)
    assert images_first(RenderedTurn("human", (image,))) == ([image], [])


def test_a_tokenizer_without_a_token_that_a_template_needs_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    assert beginning_of_sequence(tokenizer) == "<s>"
    tokenizer.bos_token = None  # type: ignore[assignment]
    expected = r"tokenizer_config\.json: bos_token: expected a token, found nothing; the tokenizer has no bos_token"
    with pytest.raises(ConfigError, match=expected):
        beginning_of_sequence(tokenizer)


def test_the_first_word_of_a_text_and_the_one_behind_an_image_have_the_space_of_a_beginning() -> None:
    tokenizer = llama_like()
    image: Any = tokenizer.convert_tokens_to_ids("<image>")
    for text, spaced in (("<s>At", True), ("</s>At", False), ("</s><s>At", False), ("x<s>At", False)):
        ids, _ = tokenize([TextSpan(text)], tokenizer)
        assert ("\u2581At" in tokenizer.convert_ids_to_tokens(ids)) == spaced, text
    for given in (image, None):
        ids, _ = tokenize([TextSpan("Where<image>At")], tokenizer, image=given)
        assert ("\u2581At" in tokenizer.convert_ids_to_tokens(ids)) == (given is not None)


@pytest.mark.parametrize(
    ("texts", "start"),
    [
        ([], "text"),
        ([""], "text"),
        (["x"], "middle"),
        (["<s>"], "text"),
        (["", "<s>", ""], "text"),
        (["</s>"], "special"),
        (["x</s>"], "special"),
        (["x<s>"], "special"),
        (["</s><s>"], "special"),
        (["<s>", "<s>"], "special"),
        (["<s>x"], "middle"),
        (["x", "<image>"], "text"),
        (["<image>", "</s>"], "special"),
    ],
)
def test_start_behind_is_where_the_answer_begins_in_the_whole(texts: list[str], start: str) -> None:
    tokenizer = llama_like()
    image: Any = tokenizer.convert_tokens_to_ids("<image>")
    pieces, said = [TextSpan(text) for text in texts], TextSpan("At", supervised=True)
    found = start_behind(pieces, tokenizer, image=image)
    assert found == start
    alone = [tokenize(some, tokenizer, image=image, start=at)[0] for some, at in ((pieces, "text"), ([said], found))]
    assert tokenize([*pieces, said], tokenizer, image=image)[0] == alone[0] + alone[1]
    assert start_behind([*pieces, TextSpan("</s>", literal=True)], tokenizer, image=image) == "middle"
