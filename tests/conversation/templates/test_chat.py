"""`template=chat` with the chat templates of the known families, as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from mllm.conversation.rendering import IGNORE, RenderedTurn, TextSpan, tokenize
from mllm.errors import ConfigError
from mllm.registry import TEMPLATES
from mllm.tokenizer_files import load_tokenizer
from mllm.types import IMAGE
from tests.conftest import make_tokenizer
from tests.conversation.chat_templates import FAMILIES, QWEN3, SAME_AS_PUBLISHED, TOKENS
from tests.conversation.rendered import marked
from tests.marks import slow_but
from tests.sentencepieces import save_llama

REAL = Path(__file__).parents[4] / "shared" / "tokenizers"
WORDS = ["Where is it?", "At [0.1,0.2].", "And now </s>?", "Gone", "Then?", "No"]
ENDS = {
    **dict.fromkeys(("chatml", "qwen2", "qwen3", "qwen35", "only_thinking", "smollm3", "qwen2_vl"), "<|im_end|>"),
    **dict.fromkeys(("llama3", "llama32"), "<|eot_id|>"),
    **dict.fromkeys(("gemma2", "gemma3"), "<end_of_turn>"),
    **{"phi3": "<|end|>", "granite": "<|end_of_text|>", "glm": "<|user|>", "glm46v": "<|user|>", "llama2": " </s>"},
}


def turns(*words: str, image: bool = False) -> list[RenderedTurn]:
    said = [RenderedTurn("gpt" if n % 2 else "human", (TextSpan(text, literal=True),)) for n, text in enumerate(words)]
    return [RenderedTurn("human", (TextSpan(IMAGE), *said[0].pieces)), *said[1:]] if image else said


def published(tokenizer: Any, words: list[str], *, image: bool, **options: Any) -> str:
    first = [f"{IMAGE * image}{words[0]}", *words[1:]]
    messages = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(first)]
    told = {"enable_thinking": False, **options}
    told["chat_template"] = tokenizer.chat_template.replace("strftime_now('%d %b %Y')", "'26 Jul 2024'")
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=len(words) % 2 == 1, **told)


def made_for(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer.add_tokens(list(TOKENS), special_tokens=True)
    tokenizer.chat_template = FAMILIES[family]
    return tokenizer


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tokenizer = load_tokenizer(save_llama(tmp_path_factory.mktemp("llama"), settings={"legacy": False}))
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    return tokenizer


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("family", sorted(SAME_AS_PUBLISHED))
def test_known_families_are_rendered_as_their_templates_do(family: str, image: bool) -> None:
    tokenizer = made_for(family, make_tokenizer())
    template = TEMPLATES.make("chat")
    if family == "qwen2_vl" and image:
        pytest.skip("of a model that has `<image>`, the image is put in as words")
    for count in range(1, len(WORDS) + 1):
        pieces = template.render(turns(*WORDS[:count], image=image), tokenizer)
        assert "".join(piece.text for piece in pieces) == published(tokenizer, WORDS[:count], image=image)


def check_prefixes(tokenizer: Any, template: Any, *, image: bool = True) -> None:
    """In every round the prompt is the beginning of the row, and what follows it is the answer through its end."""
    said = turns(*WORDS, image=image)
    number = tokenizer.convert_tokens_to_ids(IMAGE)
    whole, labels = tokenize(template.render(said, tokenizer), tokenizer, image=number)
    end = template.end(tokenizer)
    for asked in range(1, len(said), 2):
        prompt, _ = tokenize(template.render(said[:asked], tokenizer), tokenizer, image=number)
        assert whole[: len(prompt)] == prompt
        answer: list[int] = []
        for label in labels[len(prompt) :]:
            if label == IGNORE:
                break
            answer.append(label)
        assert tokenizer.decode(answer, clean_up_tokenization_spaces=False).strip() == f"{WORDS[asked]}{end}".strip()


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_prompts_are_the_beginning_of_training_rows_in_every_round(family: str, kind: str, llama: Any) -> None:
    tokenizer = made_for(family, make_tokenizer() if kind == "bytes" else llama)
    template = TEMPLATES.make("chat")
    assert template.end(tokenizer) == ENDS.get(family, "</s>")
    check_prefixes(tokenizer, template, image=family != "qwen2_vl")


@pytest.mark.parametrize("family", ["granite", "phi3", "chatml"])
def test_an_answer_ends_in_its_end_token_where_that_begins_sequences_too(family: str) -> None:
    """As Granite 3's and GPT-2's tokenizers have it."""
    tokenizer = made_for(family, make_tokenizer())
    tokenizer.bos_token = tokenizer.eos_token = ENDS[family]
    template = TEMPLATES.make("chat")
    assert template.end(tokenizer) == ENDS[family]
    check_prefixes(tokenizer, template)


def test_an_error_in_a_chat_template_is_named() -> None:
    tokenizer = made_for("chatml", make_tokenizer())
    tokenizer.chat_template = "{{ 1 / 0 }}"
    with pytest.raises(ConfigError, match=r"the tokenizer's chat template refuses these . turns: division by zero"):
        TEMPLATES.make("chat").end(tokenizer)


@pytest.mark.parametrize("name", slow_but(["mistral_v3_spm"], ["qwen3", "llama3", "mistral_v3_spm"]))
def test_real_chat_templates_work_by_default(name: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip("needs the shared tokenizers")
    tokenizer: Any = load_tokenizer(REAL / name)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    template = TEMPLATES.make("chat")
    check_prefixes(tokenizer, template)
    one = turns(*WORDS[:2])
    for count in (1, 2):
        text = "".join(piece.text for piece in template.render(one[:count], tokenizer))
        said = published(tokenizer, WORDS[:count], image=False)
        assert text == said
        begun = said.removeprefix(str(tokenizer.bos_token))
        again = (
            tokenizer(said, add_special_tokens=False)["input_ids"] if begun == said else tokenizer(said)["input_ids"]
        )
        if name != "mistral_v3_spm":  # whose answer's first word is read apart from its prompt
            assert tokenize(template.render(one[:count], tokenizer), tokenizer)[0] == again


def test_an_empty_block_of_thoughts_opens_the_answers_of_every_round() -> None:
    tokenizer = made_for("qwen3", make_tokenizer())
    text = marked(TEMPLATES.make("chat").render(turns(*WORDS[:4]), tokenizer)).replace("»«", "")
    opening = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert text == (
        f"<|im_start|>user\nWhere is it?<|im_end|>\n{opening}«At [0.1,0.2].<|im_end|>»\n"
        f"<|im_start|>user\nAnd now </s>?<|im_end|>\n{opening}«Gone<|im_end|>»\n"
    )


@pytest.mark.parametrize(
    ("family", "opening", "said"),
    [
        ("qwen3", "<|im_start|>assistant\n", "<think>\nHm.\n</think>\n\nGone"),
        ("only_thinking", "<|im_start|>assistant\n<think>\n", "Hm.\n</think>\n\nGone"),
        ("deepseek_r1", "<｜Assistant｜><think>\n", "Hm.\n</think>\n\nGone"),
    ],
)
def test_answers_with_thoughts_are_opened_as_a_generation_is(family: str, opening: str, said: str) -> None:
    tokenizer = made_for(family, make_tokenizer())
    template = TEMPLATES.make({"type": "chat", "thinking": True})
    asked = turns("Where?", "<think>\nHm.\n</think>\n\nGone")
    text = marked(template.render(asked, tokenizer)).replace("»«", "")
    assert f"{opening}«{said}{template.end(tokenizer)}»" in text
    assert marked(template.render(asked[:1], tokenizer)).endswith(opening)


THOUGHTS = "<think>\nHm [0.1].\n</think>\n\n"
BLOCK = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("family", "thinking", "opening", "thought", "without"),
    [
        ("qwen3", True, "assistant\n", f"{THOUGHTS}At", f"{BLOCK}Gone"),
        ("qwen3", None, "assistant\n", f"{THOUGHTS}At", f"{BLOCK}Gone"),
        ("qwen3", False, f"assistant\n{BLOCK}", "At", "Gone"),
        ("qwen35", True, "assistant\n<think>\n", THOUGHTS.removeprefix("<think>\n") + "At", "\n</think>\n\nGone"),
        ("qwen35", None, "assistant\n<think>\n", THOUGHTS.removeprefix("<think>\n") + "At", "\n</think>\n\nGone"),
        ("qwen35", False, f"assistant\n{BLOCK}", "At", "Gone"),
        ("glm46v", True, "<|assistant|>", f"\n{THOUGHTS}At", "\n<think></think>\nGone"),
        ("glm46v", False, "<|assistant|>\n<think></think>", "\nAt", "\nGone"),
        ("deepseek_r1", True, "<think>\n", THOUGHTS.removeprefix("<think>\n") + "At", "\n</think>\n\nGone"),
        ("smollm3", True, "assistant\n", f"{THOUGHTS}At", "Gone"),
        ("smollm3", False, "assistant\n<think>\n\n</think>\n", "At", "Gone"),
        ("chatml", False, "assistant\n", f"{THOUGHTS}At", "Gone"),
    ],
)
def test_prompts_begin_training_rows_with_thinking_on_off_or_absent(
    family: str, thinking: bool | None, opening: str, thought: str, without: str
) -> None:
    """An answer with thoughts, then one without: each prompt is the beginning of the row, the answer follows."""
    tokenizer = made_for(family, make_tokenizer())
    template = TEMPLATES.make({"type": "chat", "thinking": thinking})
    said = turns("Where?", f"{THOUGHTS}At", "And?", "Gone")
    whole, labels = tokenize(template.render(said, tokenizer), tokenizer)
    end = template.end(tokenizer)
    for asked, words in ((1, thought), (3, without)):
        prompt, _ = tokenize(template.render(said[:asked], tokenizer), tokenizer)
        assert whole[: len(prompt)] == prompt
        assert tokenizer.decode(prompt).endswith(opening)
        rest = labels[len(prompt) :]
        answer = rest[: rest.index(IGNORE)] if IGNORE in rest else rest
        assert tokenizer.decode(answer, clean_up_tokenization_spaces=False) == f"{words}{end}"


def test_begun_is_the_tag_that_a_prompt_leaves_open() -> None:
    found = {
        (family, thinking): TEMPLATES.make({"type": "chat", "thinking": thinking}).begun(
            made_for(family, make_tokenizer())
        )
        for family in ("qwen3", "qwen35", "only_thinking", "chatml")
        for thinking in (True, False)
    }
    opened = {("qwen35", True), ("only_thinking", True)}
    assert found == {key: "<think>\n" if key in opened else "" for key in found}


def test_contents_are_stripped_as_the_template_strips_them() -> None:
    words = [" \n Where? \n", "\n\n At \n", "Now?\n", " Gone"]
    for family in ("llama3", "gemma2", "gemma3", "llama2", "chatml", "qwen2", "phi3", "mistral3", "smollm3", "zephyr"):
        tokenizer = made_for(family, make_tokenizer())
        text = "".join(piece.text for piece in TEMPLATES.make("chat").render(turns(*words), tokenizer))
        assert text == published(tokenizer, words, image=False), family


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("gemma2", {"system": "Be kind."}, "refuses these 3 turns: System role not supported; leave `system` out"),
        ("mistral3", {"system": "Be kind."}, "so prompts would differ from training; leave `system` out"),
        ("chatml", {"parts": True, "variables": {}}, None),
        ("llama2", {"parts": True}, "refuses these"),
    ],
)
def test_what_cannot_work_is_refused_before_there_are_data(
    family: str, options: dict[str, Any], message: str | None
) -> None:
    tokenizer = made_for(family, make_tokenizer())
    with pytest.raises(ConfigError) as caught:
        TEMPLATES.make({"type": "chat", **options}).end(tokenizer)
    assert (message or "writes all turns in their order") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_variables_reach_the_template() -> None:
    tokenizer = made_for("granite", make_tokenizer())
    text = marked(TEMPLATES.make({"type": "chat", "variables": {"thinking": True}}).render(turns("a"), tokenizer))
    assert "You are Granite. Think." in text


def test_todays_date_is_always_the_same() -> None:
    tokenizer = made_for("llama32", make_tokenizer())
    assert "Today Date: 26 Jul 2024" in marked(TEMPLATES.make("chat").render(turns("a"), tokenizer))


def test_a_template_writes_images_where_it_knows_the_models_placeholder() -> None:
    asked = turns("?", image=True)
    gemma, qwen = made_for("gemma3", make_tokenizer()), made_for("qwen2_vl", make_tokenizer())
    template = TEMPLATES.make("chat")
    assert "<start_of_turn>user\n<image>?" in marked(template.render(asked, gemma))
    assert "<|im_start|>user\n<image>?" in marked(template.render(asked, qwen))
    bare = made_for("qwen2_vl", PreTrainedTokenizerFast(tokenizer_object=plain_backend(), eos_token="</s>"))
    assert "user\n<|vision_start|><|image_pad|><|vision_end|>?" in marked(TEMPLATES.make("chat").render(asked, bare))


def plain_backend() -> Any:
    from mllm.conversation.tokenizer_training import train_tokenizer

    return train_tokenizer([], vocab_size=0).backend_tokenizer


def test_an_image_without_words_is_a_question(llama: Any) -> None:
    for tokenizer in (make_tokenizer(), llama):
        for family in ("chatml", "gemma3"):
            made_for(family, tokenizer)
            said = [
                RenderedTurn("human", (TextSpan(IMAGE),)),
                RenderedTurn("gpt", (TextSpan("A dog"),)),
                *turns("And?", "Yes"),
            ]
            template = TEMPLATES.make("chat")
            text = "".join(piece.text for piece in template.render(said, tokenizer))
            prompt = "".join(piece.text for piece in template.render(said[:1], tokenizer))
            assert text.startswith(prompt)
            assert text.count(IMAGE) == 1


def test_qwen3_sample_is_like_the_public_one() -> None:
    """The small stand-in has the trait that made the public one fail: prompts and rows open answers differently."""
    tokenizer = made_for("qwen3", make_tokenizer())
    whole = published(tokenizer, WORDS[:4], image=False)
    assert "<think>" not in whole.split("And now")[0]
    assert "<think>" in published(tokenizer, WORDS[:1], image=False)
    assert FAMILIES["qwen3"] == QWEN3
