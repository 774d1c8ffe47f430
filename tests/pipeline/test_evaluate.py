"""An evaluation gives each item the answer that it gets alone, however the items are put together."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast

from mllm.conversation.collator import Collator
from mllm.conversation.packing import split_rounds
from mllm.conversation.preprocessing.image_preprocessor import NoView
from mllm.conversation.processor import Processor
from mllm.models.native.model import Native
from mllm.pipeline import evaluate as evaluation
from mllm.pipeline.evaluate import Loader, plan, predict, stop_arguments
from mllm.records import read_item
from mllm.registry import CODECS, DATASETS, TEMPLATES
from mllm.types import Item, Turn
from tests.conftest import make_tokenizer
from tests.conversation.processors import make_processor
from tests.marks import slow_but
from tests.models.tiny_hf import FAMILIES, ask, save_tiny
from tests.models.tiny_hf import build as build_hf
from tests.pipeline.packed import LANGUAGE_MODELS, SIZES, build
from tests.pipeline.tiny import SCENES, Items


@pytest.fixture(scope="module")
def crowd() -> Any:
    """Seventeen questions about four images, in no order."""
    scenes = DATASETS.make(dict(SCENES, count=4, objects=[3, 4], questions_per_scene=6, seed=5))
    found = [question for n in range(4) for question in split_rounds(scenes[n])]
    return Items([found[n] for n in torch.randperm(len(found), generator=torch.Generator().manual_seed(0))])


@pytest.fixture
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, and as on a CPU."""
    monkeypatch.setattr(evaluation, "NOT_REFILLED", () if request.param == "refilled" else ("cpu",))


WAYS: dict[str, dict[str, Any]] = {
    "greedy": dict(repetition_penalty=1.5),
    "beams": dict(num_beams=3, repetition_penalty=1.5),
    "sampled": dict(do_sample=True, temperature=1.5, top_k=200, top_p=0.98),
}


def answers(model: Any, processor: Any, items: Any, size: int, *, seed: int = 0, **generation: Any) -> list[list[int]]:
    """Tokens of each answer; one in eight tokens ends it, so that some do early and others never."""
    tokenizer = processor.tokenizer
    found = predict(
        model,
        items,
        processor,
        Loader(collator=Collator(pad_token_id=tokenizer.pad_token_id), batch_size=size),
        Accelerator(cpu=True),
        generation=dict(max_new_tokens=8, eos_token_id=list(range(6, 400, 8)), **generation),
        description="",
        seed=seed,
    )
    return [tokenizer(prediction.text, add_special_tokens=False)["input_ids"] for prediction in found]


ORDERS = ("refilled", "in turn")


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize(
    ("name", "way", "order"),
    slow_but(
        [("llama", "greedy", "in turn"), ("llama", "beams", "refilled"), ("llama", "sampled", "refilled")],
        [*product(["llama"], WAYS, ORDERS), *product(["qwen2", "gpt_neox", "phi"], ["greedy"], ORDERS)],
    ),
    indirect=["order"],
)
def test_answers_are_those_of_the_questions_one_by_one(name: str, way: str, crowd: Any) -> None:
    torch.manual_seed(0)
    _, processor, model = build(language_model={**LANGUAGE_MODELS[name], "initializer_range": 0.3})
    assert model.supports_prefix_sharing
    shared = answers(model, processor, crowd, 8, **WAYS[way])
    assert len(set(map(len, shared))) > 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "supports_prefix_sharing", False)
        assert answers(model, processor, crowd, 1, **WAYS[way]) == shared
        assert answers(model, processor, crowd, 5, **WAYS[way]) == shared


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("order", ORDERS, indirect=True)
def test_an_item_draws_the_same_among_any_others(crowd: Any) -> None:
    torch.manual_seed(0)
    _, processor, model = build(language_model=LANGUAGE_MODELS["llama"])
    found = answers(model, processor, crowd, 8, **WAYS["sampled"])
    fewer = answers(model, processor, Items(crowd.items[:9]), 4, **WAYS["sampled"])
    assert found[:9] == fewer
    assert answers(model, processor, crowd, 8, seed=1, **WAYS["sampled"]) != found


def test_items_are_read_once_for_the_plan(crowd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, processor, _ = build()
    read: list[int] = []
    monkeypatch.setattr(Items, "__getitem__", lambda self, index: read.append(index) or self.items[index])
    plan(crowd, 8, may_share=lambda item: not processor.ends_in_image(item))
    assert read == list(range(len(crowd)))


def test_a_batch_reads_each_image_once(crowd: Any) -> None:
    found = plan(crowd, 8, may_share=lambda _: True)
    assert found.sharing
    assert sorted(index for batch in found.batches for group in batch for index in group) == list(range(len(crowd)))
    assert all(sum(map(len, batch)) <= 8 for batch in found.batches)
    for batch in found.batches:
        assert all(len({crowd[index].images for index in group}) == 1 for group in batch)
    assert sum(map(len, found.batches)) < len(crowd) / 2
    last = crowd[len(crowd) - 1]
    for alone in (plan(crowd, 8, may_share=None), plan(crowd, 8, may_share=lambda item: item is not last)):
        assert not alone.sharing
        assert sorted(group for batch in alone.batches for group in batch) == [[n] for n in range(len(crowd))]
        images = [crowd[index].images for batch in alone.batches for group in batch for index in group]
        assert sum(a != b for a, b in pairwise(images)) == sum(map(len, found.batches)) - 1


def test_prompts_of_like_length_are_together() -> None:
    """Within so many batches, and the longest first: what does not fit into memory shows at once."""
    lengths = [int(n) for n in torch.randint(1, 60, (3 * 16 * 4,), generator=torch.Generator().manual_seed(0))]
    turns = [[{"from": "human", "value": "a" * n}, {"from": "gpt", "value": "b"}] for n in lengths]
    items: Any = Items([read_item({"conversations": each}, key="a") for each in turns])
    for portions in (1, 2):
        batches = plan(items, 4, may_share=None, portions=portions).batches
        assert {len(batch) for batch in batches} == {4 // portions}
        order = [index for batch in batches for group in batch for index in group]
        for start in (0, 64, 128):
            window = order[start : start + 64]
            assert sorted(window) == list(range(start, start + 64))
            assert [lengths[index] for index in window] == sorted(lengths[start : start + 64], reverse=True)


@pytest.mark.parametrize(("template", "text"), [("plain", "<image>\nWhat?"), ("completion", "<image>")])
def test_prompts_that_end_in_an_image_are_answered_too(template: str, text: str) -> None:
    """Captions have nothing behind the image that could branch off."""
    _, processor, model = build(template=template)
    image = Image.new("RGB", (32, 32), "red")
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "Red."}]
    items = Items([read_item({"image": image, "conversations": turns}, key="a") for _ in range(3)])
    assert processor.ends_in_image(items[0])
    pad = processor.tokenizer.pad_token_id
    loader = Loader(collator=Collator(pad_token_id=pad), batch_size=2)
    accelerator, generation = Accelerator(cpu=True), dict(max_new_tokens=4)
    found = list(predict(model, items, processor, loader, accelerator, generation=generation, description=""))
    batch = Collator(pad_token_id=pad)([processor.encode(items[0], 0, answer=False)])
    del batch["index"]
    expected = processor.decode(model.generate(**batch, **generation, do_sample=False)[0].tolist(), items[0], 0)
    assert [prediction.text for prediction in found] == [expected.text] * 3


@pytest.mark.parametrize(
    "language_model",
    [
        dict(model_type="mpt", d_model=16, n_heads=2, n_layers=2),
        dict(model_type="mistral", sliding_window=8, num_key_value_heads=1),
    ],
)
def test_a_model_that_counts_positions_or_forgets_reads_each_prompt_whole(language_model: dict[str, Any]) -> None:
    sizes = SIZES if language_model["model_type"] == "mistral" else {}
    assert not build(language_model={**sizes, **language_model})[2].supports_prefix_sharing


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("family", "way"),
    slow_but(
        [("qwen3_vl", "greedy"), ("qwen2_5_vl", "beams"), ("internvl", "sampled")],
        [*((family, "greedy") for family in FAMILIES), ("qwen2_5_vl", "beams"), ("internvl", "sampled")],
    ),
)
def test_transformers_own_models_answer_as_one_by_one(
    family: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those whose question changes how the image is read, or that number positions by what they hold."""
    monkeypatch.setattr(evaluation, "NOT_REFILLED", ())
    model, processor = build_hf(str(save_tiny(family, tmp_path)))
    model.eval()
    images = [ask(size, seed=seed) for seed, size in enumerate([(40, 20), (17, 50), (30, 30)])]
    asked = [
        replace(item, key=question, turns=(replace(item.turns[0], text=f"<image>\n{question}"), item.turns[1]))
        for question in ("Where is it?", "What is on the left of the big dog?", "Who?")
        for item in images
    ]
    items = Items([*asked, *([] if family == "kosmos-2" else [ask(question="Name an animal.")])])
    assert model.supports_prefix_sharing == (family not in ("paligemma", "kosmos-2"))
    shared = answers(model, processor, items, 7, **WAYS[way])
    assert len(set(map(len, shared))) > 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Native, "supports_prefix_sharing", False)
        assert answers(model, processor, items, 1, **WAYS[way]) == shared


class Spelling(LogitsProcessor):
    """Makes a model say these tokens one after another, whatever it would say."""

    def __init__(self, prompt: int, tokens: list[int]) -> None:
        self.prompt, self.tokens = prompt, tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.tokens[input_ids.shape[1] - self.prompt]] = 0
        return forced


@pytest.mark.parametrize("template", ["vicuna_v1", "otter", "llava_v0"])
@pytest.mark.parametrize("end", ["the template's", "the tokenizer's"])
def test_an_answer_ends_where_the_template_or_the_tokenizer_ends_it(template: str, end: str) -> None:
    """One token of its own, another than the tokenizer's, several: the tokenizer's end of sequence ends each."""
    processor = make_processor(make_tokenizer(), template=template)
    tokenizer = processor.tokenizer
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    said, prompt = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the red", "Where? USER:"))
    last = tokenizer(processor.stop, add_special_tokens=False)["input_ids"]
    last = [tokenizer.eos_token_id] if end == "the tokenizer's" else last
    spelling = LogitsProcessorList([Spelling(len(prompt), [*said, *last, *said, *said])])
    ids = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=20,
        do_sample=False,
        logits_processor=spelling,
        **stop_arguments(processor),
    )
    assert ids[0, len(prompt) :].tolist() == [*said, *last]
    question = Item(key="a", turns=(Turn(role="human", text="?"),))
    assert processor.decode(ids[0, len(prompt) :].tolist(), question, 0).text == "the red"


def test_generation_stops_at_the_token_that_ends_an_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.add_tokens(["<|im_end|>"], special_tokens=True)
    eos, end = tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"])
    view = NoView()
    for name, ends in (("<|im_end|>", {eos, end}), (" <|im_end|>", {eos, end}), ("</s>", {eos})):
        template = TEMPLATES.make({"type": "instruction", "instruction": "", "response": "A:", "end": name})
        processor = Processor(tokenizer=tokenizer, template=template, codec=CODECS.make("shikra"), view=view)
        said = stop_arguments(processor)
        assert set(said["eos_token_id"]) == ends
        assert "stopping_criteria" not in said  # which would stop where an answer spells the token out


def test_generation_stops_at_words_that_end_an_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    template = TEMPLATES.make("llava_v0")
    processor = Processor(tokenizer=tokenizer, template=template, codec=CODECS.make("shikra"), view=NoView())
    said = stop_arguments(processor)
    assert said["eos_token_id"] == [tokenizer.eos_token_id]
    for text, done in ((" a\n###", True), (" a ###", False), (" a\n##", False)):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        assert said["stopping_criteria"](ids, None).tolist() == [done], text
