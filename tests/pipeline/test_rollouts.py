"""Sampled answers are those of each prompt by itself, however many are drawn together and whatever is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from mllm.compat import transformers_generation
from mllm.conversation.packing import split_rounds
from mllm.errors import ModelError
from mllm.pipeline.rollouts import RolloutSampling, SampledCompletion, never_answers, sample_answers
from mllm.registry import DATASETS
from mllm.types import EncodedSample
from tests.marks import slow_but
from tests.models.tiny_flamingo import disturb
from tests.models.tiny_hf import FAMILIES, ask, save_tiny
from tests.models.tiny_hf import build as build_hf
from tests.pipeline.packed import LANGUAGE_MODELS, build
from tests.pipeline.tiny import SCENES

ENDS = list(range(6, 400, 8))
"""One token in eight ends an answer, so that some do early and others never."""
FAST = ("qwen2_5_vl", "internvl", "paligemma")
DRAWN = RolloutSampling(
    num_generations=3,
    temperature=1.3,
    top_p=0.98,
    top_k=200,
    max_completion_length=7,
    generation_kwargs=dict(eos_token_id=ENDS),
)


def entries(processor: Any) -> list[list[EncodedSample]]:
    """Seven questions about three images, a round each."""
    scenes = DATASETS.make(dict(SCENES, count=3, objects=[3, 4], questions_per_scene=3, seed=5))
    found = [split_rounds(scenes[number]) for number in range(3)]
    found[1] = found[1][:1]
    return [[processor.encode(each, 10 + n, answer=False) for each in item] for n, item in enumerate(found)]


def drawn(
    model: Any,
    processor: Any,
    prompts: Sequence[Sequence[EncodedSample]],
    sampling: RolloutSampling = DRAWN,
    **options: Any,
) -> list[list[SampledCompletion]]:
    settings: dict[str, Any] = dict(seed=0, epoch=0) | options
    return sample_answers(model, processor, prompts, Accelerator(cpu=True), sampling=sampling, **settings)


def one_by_one(model: Any, processor: Any, prompts: Sequence[Sequence[EncodedSample]]) -> list[list[SampledCompletion]]:
    """The rounds of an item in turn, each behind those before it, so that it keeps its number."""
    found: list[list[SampledCompletion]] = []
    for rounds in prompts:
        for number in range(len(rounds)):
            found.append(drawn(model, processor, [rounds[: number + 1]], share=False)[-1])
    return found


@pytest.fixture(params=["llama", "qwen2", "gpt_neox"])
def llava(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    torch.manual_seed(0)
    _, processor, model = build(language_model={**LANGUAGE_MODELS[request.param], "initializer_range": 0.3})
    return model, processor


def test_answers_of_llava_are_those_of_each_prompt_by_itself(llava: tuple[Any, Any]) -> None:
    model, processor = llava
    assert model.supports_prefix_sharing
    prompts = entries(processor)
    together = drawn(model, processor, prompts)
    assert [len(answers) for answers in together] == [3] * 7
    assert len({len(answer.ids) for answers in together for answer in answers}) > 3
    assert len({answer.ids for answers in together for answer in answers}) > 15, "all draw alike"
    assert together == one_by_one(model, processor, prompts)


def test_an_answer_follows_from_its_numbers_alone(llava: tuple[Any, Any]) -> None:
    model, processor = llava
    prompts = entries(processor)
    found = drawn(model, processor, prompts)
    assert drawn(model, processor, prompts[1:])[-3:] == found[-3:]
    assert drawn(model, processor, prompts[::-1])[:3] == found[-3:]
    more = drawn(model, processor, prompts, replace(DRAWN, num_generations=5))
    assert [answers[:3] for answers in more] == found
    others = drawn(model, processor, prompts, seed=1), drawn(model, processor, prompts, epoch=1)
    assert all(a != b for other in others for a, b in zip(other, found, strict=True))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("family", slow_but(FAST, FAMILIES))
def test_answers_of_transformers_own_models_are_those_of_each_prompt_by_itself(family: str, tmp_path: Path) -> None:
    model, processor = build_hf(str(save_tiny(family, tmp_path)))
    items = [ask((40, 20), seed=0), ask((17, 50), seed=1), *([] if family == "kosmos-2" else [ask(question="A?")])]
    again = [
        replace(item, turns=(replace(item.turns[0], text="<image>\nWho is it?"), item.turns[1])) for item in items[:2]
    ]
    prompts = [
        [processor.encode(each, n, answer=False) for each in (item, *again[n : n + 1])] for n, item in enumerate(items)
    ]
    together = drawn(model, processor, prompts)
    assert len({len(answer.ids) for answers in together for answer in answers}) > 1
    assert together == one_by_one(model, processor, prompts)


def test_each_image_and_each_question_is_read_once(llava: tuple[Any, Any]) -> None:
    model, processor = llava
    prompts = entries(processor)
    read: list[int] = []
    images: list[int] = []
    body = model.language_model.get_decoder()
    hooks = [
        body.register_forward_hook(lambda module, args, output: read.append(output[0].shape[:2].numel())),
        model.vision_tower.register_forward_hook(lambda module, args, output: images.append(len(output))),
    ]
    found = drawn(model, processor, prompts)
    for hook in hooks:
        hook.remove()
    assert images == [3]
    beginnings, rests, *steps = read
    longest = max(len(prompt.input_ids) for entry in prompts for prompt in entry)
    assert beginnings + rests < 3 * longest + 7 * longest, "prompts were read for each answer"
    answers = [answer for answers in found for answer in answers]
    assert steps == [sum(len(answer.ids) > step for answer in answers) for step in range(1, 7)], "the finished stayed"


def test_what_stands_for_images_is_never_drawn(llava: tuple[Any, Any]) -> None:
    model, processor = llava
    never = never_answers(model, processor)
    assert processor.image_token_id in never
    assert processor.tokenizer.eos_token_id not in never
    with torch.no_grad():
        model.language_model.get_output_embeddings().weight[never] *= 50
    found = drawn(model, processor, entries(processor), replace(DRAWN, num_generations=8))
    assert not {token for answers in found for answer in answers for token in answer.ids} & set(never)


def test_ends_and_cuts_are_told_apart() -> None:
    """By the end token of the model, and where words end an answer by those."""
    for template in ("vicuna_v1", "completion"):
        torch.manual_seed(0)
        _, processor, model = build(template=template)
        ends = [processor.tokenizer.eos_token_id, *([] if processor.end_token_id is None else [processor.end_token_id])]
        found = [
            answer
            for answers in drawn(model, processor, entries(processor), RolloutSampling(max_completion_length=30))
            for answer in answers
        ]
        for answer in found:
            text = processor.tokenizer.decode(answer.ids)
            said = processor.end_token_id is None and processor.stop in text
            assert answer.ended == (answer.ids[-1] in ends or said)
            assert answer.ended or len(answer.ids) == 30
            assert not set(answer.ids[:-1]) & set(ends)
        assert len({answer.ended for answer in found}) == 2


def test_models_that_cannot_share_answer_likewise() -> None:
    torch.manual_seed(0)
    parts = dict(type="openflamingo", template="openflamingo", cross_attn_every_n_layers=1)
    left_out = ("connector", "feature_layer", "template")
    _, processor, model = build(without=left_out, perceiver=dict(depth=1, latents=3, heads=2, head_width=8), **parts)
    disturb(model)
    assert not model.supports_prefix_sharing
    prompts = entries(processor)
    assert drawn(model, processor, prompts) == one_by_one(model, processor, prompts)


def test_the_mode_of_the_model_is_kept(llava: tuple[Any, Any]) -> None:
    model, processor = llava
    seen: list[bool] = []
    hook = model.language_model.register_forward_hook(lambda module, *_: seen.append(module.training))
    model.train()
    drawn(model, processor, entries(processor)[1:2])
    hook.remove()
    assert model.training
    assert not any(seen)
    assert len(seen) > 1


def test_another_version_of_transformers_is_named(llava: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = llava
    monkeypatch.setattr(transformers_generation, "PRIVATE_STEPS", ("_no_such_step",))
    with pytest.raises(ModelError, match="has no _no_such_step"):
        drawn(model, processor, entries(processor)[:1])
