"""Questions that share a picture's tokens learn what they would learn one by one: the same loss, the same gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from mllm.conversation.collator import Collator
from mllm.conversation.packing import questions, share
from mllm.errors import ConfigError, DataError, ModelError
from mllm.pipeline.builder import build_model
from mllm.registry import DATASETS
from mllm.types import Batch, Example, Item
from tests.pipeline.tiny import CONFIG, SCENES

LANGUAGE_MODELS = {
    "llama": dict(model_type="llama", num_key_value_heads=1),
    "qwen2": dict(model_type="qwen2", num_key_value_heads=2),
    "gpt_neox": dict(model_type="gpt_neox"),
    "phi": dict(model_type="phi"),
}


def build(**changes: Any) -> tuple[Any, Any, Any]:
    items = DATASETS.make(dict(SCENES, count=6, objects=[1, 4], questions_per_scene=4))
    model_args = {**CONFIG["model_args"], **changes}
    processor, model = build_model(model_args, {}, items)
    items.set_epoch(0)
    return items, processor, model


def loss_and_gradients(model: Any, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    inputs = {name: value for name, value in batch.items() if name not in ("index", "cut_answers")}
    loss = model(**inputs).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_loss_and_gradients_equal_those_of_the_questions_one_by_one(name: str) -> None:
    sizes = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=512
    )
    torch.manual_seed(0)
    items, processor, model = build(language_model={**sizes, **LANGUAGE_MODELS[name]})
    model.float().train()
    groups = [[processor.encode(each, n) for each in questions(items[n])] for n in range(6)]
    pad = processor.tokenizer.pad_token_id
    rows = Collator(pad_token_id=pad, packing="shared")(groups)
    single = Collator(pad_token_id=pad)([example for group in groups for example in group])
    assert rows["input_ids"].shape[0] == 6 < single["input_ids"].shape[0]
    assert [int((batch["input_ids"] == processor.image_token_id).sum()) for batch in (rows, single)] == [
        4 * len(groups),
        4 * len(single["input_ids"]),
    ]
    shared_loss, shared = loss_and_gradients(model, rows)
    loss, expected = loss_and_gradients(model, single)
    assert shared_loss == pytest.approx(loss, rel=1e-5)
    assert shared.keys() == expected.keys()
    for parameter, gradient in expected.items():
        scale = max(gradient.abs().max().item(), 1e-3)
        assert (shared[parameter] - gradient).abs().max().item() <= 1e-5 * scale, parameter


def test_a_row_is_the_prefix_and_what_each_question_adds() -> None:
    items, processor, _ = build()
    index = next(n for n in range(6) if len(items[n].turns) >= 4)
    examples: list[Example] = [processor.encode(each, index) for each in questions(items[index])]
    row = share(examples)
    prefix = int((row.segment_ids == 0).sum())
    assert prefix >= 4  # the picture, at least
    for number, example in enumerate(examples, start=1):
        branch = row.segment_ids == number
        assert torch.cat([row.input_ids[:prefix], row.input_ids[branch]]).equal(example.input_ids)
        assert row.position_ids[branch].tolist() == list(range(prefix, len(example.input_ids)))
        assert row.labels[branch][0] == -100


def test_two_equal_questions_keep_what_their_first_label_needs() -> None:
    items, processor, _ = build()
    example = processor.encode(questions(items[0])[0], 0)
    row = share([example, example])
    first = int((example.labels != -100).nonzero()[0])
    assert int((row.segment_ids == 0).sum()) == first - 1
    assert (row.labels != -100).sum() == 2 * (example.labels != -100).sum()


def test_a_single_question_is_a_row_of_its_own() -> None:
    items, processor, _ = build()
    example = processor.encode(questions(items[0])[0], 0)
    row = share([example])
    assert row.input_ids.equal(example.input_ids)
    assert set(row.segment_ids.tolist()) == {1}


def test_what_cannot_share_is_said() -> None:
    turns = [{"from": "human", "value": "Where is it in <image>?"}, {"from": "gpt", "value": "There."}]
    item = Item.from_dict({"image": Image.new("RGB", (8, 8)), "conversations": turns}, key="a.jsonl:3")
    with pytest.raises(DataError, match=r"a.jsonl:3: sharing pictures needs <image> at the beginning"):
        questions(item)
    with pytest.raises(ConfigError, match="expected 'none' or 'shared', found 'share'"):
        Collator(pad_token_id=0, packing="share")  # type: ignore[arg-type]
    items, processor, model = build(attn_implementation="eager")
    batch = Collator(pad_token_id=0, packing="shared")([[processor.encode(questions(items[0])[0], 0)]])
    with pytest.raises(ModelError, match="needs attn_implementation='sdpa', found 'eager'"):
        loss_and_gradients(model, batch)
