"""Text alone: what transformers' own model gives, in padded, packed and shared rows; saved as its own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM

from mllm.conversation.collator import Collator
from mllm.errors import ConfigError, DataError, ModelError
from mllm.models.causal_lm import CausalLM
from mllm.records import read_item
from mllm.registry import MODELS
from mllm.serve.chat_model import ChatModel, Message, load
from mllm.types import Item
from tests.models.tiny_text import save_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def chat(folder: Path) -> ChatModel:
    return load(folder, device="cpu")


def items(*questions: str) -> list[Item]:
    turns = [[{"from": "human", "value": text}, {"from": "gpt", "value": f"{text} Yes."}] for text in questions]
    return [read_item({"conversations": turn}, key=str(number)) for number, turn in enumerate(turns)]


def rows(chat: ChatModel, *questions: str, **options: Any) -> dict[str, Any]:
    examples = [chat.processor.encode(item, number) for number, item in enumerate(items(*questions))]
    batch: Any = Collator(pad_token_id=chat.processor.tokenizer.pad_token_id, **options)(examples)
    return {name: tensor for name, tensor in batch.items() if name not in ("index", "label_sources")}


def test_causal_lm_loss_and_answers_are_those_of_transformers(chat: ChatModel, folder: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    batch = rows(chat, "Where is the red circle?", "the blue square left of it")
    expected = theirs(**batch).loss
    torch.testing.assert_close(chat.model(**batch).loss, expected)
    ids = torch.tensor([[5, 6, 7, 8]])
    answer = theirs.generate(ids, max_new_tokens=5, do_sample=False)[:, 4:]
    assert chat.model.generate(ids, max_new_tokens=5, do_sample=False).equal(answer)


def test_causal_lm_packs_exactly(chat: ChatModel) -> None:
    questions = ("Where is the red circle?", "left", "the blue square")
    apart = chat.model(**rows(chat, *questions)).loss
    packed = rows(chat, *questions, packing="rows", max_tokens=512)
    assert len(packed["input_ids"]) == 1
    torch.testing.assert_close(chat.model(**packed).loss, apart)


def test_causal_lm_shares_a_beginning_exactly(chat: ChatModel) -> None:
    start, ends = torch.tensor([[9, 5, 6, 7]]), torch.tensor([[8, 11], [12, 13]])
    found = chat.model.generate_with_shared_prefix(
        start, torch.ones_like(start), ends, torch.ones_like(ends), torch.tensor([0, 0]), max_new_tokens=4
    )
    whole = torch.cat([start.expand(2, -1), ends], dim=1)
    assert found.equal(chat.model.generate(whole, max_new_tokens=4))


def test_causal_lm_answers_in_the_folders_own_chat_format_and_takes_no_image(chat: ChatModel) -> None:
    answers = chat.answer([Message(role="user", text=text) for text in ("Hi", "Where is it?")], max_new_tokens=3)
    assert [answer.tokens for answer in answers] == [3, 3]
    prompt = chat.processor.encode(items("Hi")[0], 0, answer=False).input_ids
    assert chat.processor.tokenizer.decode(prompt).startswith("<|im_start|>user")
    with pytest.raises(DataError, match="expected text alone"):
        chat.chat(Image.new("RGB", (32, 24), "red"), "Where is it?")


def test_causal_lm_without_a_chat_template_goes_on_with_the_prompt(tmp_path: Path) -> None:
    model = load(save_text(tmp_path, chat=False), device="cpu")
    prompt = model.processor.encode(items("Where is")[0], 0, answer=False).input_ids
    assert model.processor.tokenizer.decode(prompt, skip_special_tokens=True).strip() == "Where is"


def test_causal_lm_is_saved_as_its_own_folder(chat: ChatModel, tmp_path: Path) -> None:
    chat.model.save_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    own: Any = chat.model
    assert theirs.keys() == own.language_model.state_dict().keys()
    assert all(tensor.equal(theirs[name]) for name, tensor in own.language_model.state_dict().items())
    again: Any = MODELS.make(
        {"type": "causal_lm", "model_name_or_path": str(tmp_path)}, tokenizer=chat.processor.tokenizer
    )
    assert isinstance(again, CausalLM)


@pytest.mark.parametrize("parts", [{}, {"model_name_or_path": "a", "language_model": {"model_type": "qwen2"}}])
def test_causal_lm_needs_a_folder_or_a_config(parts: dict[str, Any], chat: ChatModel) -> None:
    with pytest.raises(ConfigError, match="either model_name_or_path or language_model"):
        MODELS.make({"type": "causal_lm", **parts}, tokenizer=chat.processor.tokenizer)


def test_causal_lm_refuses_an_encoder(tmp_path: Path, chat: ChatModel) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="bert is an encoder"):
        MODELS.make({"type": "causal_lm", "model_name_or_path": str(tmp_path)}, tokenizer=chat.processor.tokenizer)
    with pytest.raises(ModelError, match="nothing is downloaded"):
        MODELS.make({"type": "causal_lm", "model_name_or_path": "Qwen/Qwen3-8B"}, tokenizer=chat.processor.tokenizer)
