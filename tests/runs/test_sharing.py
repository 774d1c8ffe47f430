"""Questions that share an image's tokens learn what they would learn one by one: the same loss, the same gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from mllm.conversation import prefix_tree
from mllm.conversation.collator import Collator
from mllm.conversation.packing import prefix_tree_row, split_rounds
from mllm.errors import ConfigError, DataError, ModelError
from mllm.models.runtime.packed_attention import FLEX
from mllm.models.runtime.packed_mask import PackedAttentionMask, Span
from mllm.records import read_item
from mllm.types import Batch, EncodedSample, Item
from tests.pipeline.packed import LANGUAGE_MODELS, SIZES, build, loss_and_gradients, same


@pytest.fixture(autouse=True)
def every_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the shortest one that is shared has a segment of its own, so that trees are as deep as they can be."""
    monkeypatch.setattr(prefix_tree, "LEAST", 1)


def answered(item: Item) -> list[Item]:
    """A question with its answer, and with two others."""
    asked, said = item.turns
    others = [replace(said, text=text, boxes_seq=()) for text in ("It is not there.", "Nowhere.")]
    return [item, *(replace(item, turns=(asked, other)) for other in others)]


def batches_of(processor: Any, items: Any, **options: Any) -> tuple[Batch, Batch]:
    """The questions about six scenes with three answers each, packed, and one by one."""
    groups = [
        [processor.encode(each, n) for asked in split_rounds(items[n]) for each in answered(asked)] for n in range(6)
    ]
    pad = processor.tokenizer.pad_token_id
    packed = Collator(pad_token_id=pad, **options)(groups)
    if options["packing"] == "shared":
        assert max(map(depth, PackedAttentionMask(packed["segment_ids"], packed["prefix_ids"]).rows)) >= 2
    return packed, Collator(pad_token_id=pad)([example for group in groups for example in group])


def depth(row: Sequence[Span]) -> int:
    return max(len(span.ancestors) for span in row)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
@pytest.mark.parametrize(
    ("packing", "max_tokens", "rows"), [("rows", None, 1), ("shared", None, 1), ("rows", 240, 0), ("shared", 240, 0)]
)
def test_loss_and_gradients_equal_those_of_the_questions_one_by_one(
    name: str, packing: str, max_tokens: int | None, rows: int
) -> None:
    torch.manual_seed(0)
    items, processor, model = build(language_model=LANGUAGE_MODELS[name])
    model.float().train()
    packed, single = batches_of(processor, items, packing=packing, max_tokens=max_tokens)
    slots = int((packed["input_ids"] == processor.image_token_id).sum())
    assert slots == 4 * (6 if packing == "shared" else len(single["input_ids"]))
    assert 1 < len(packed["input_ids"]) < len(single["input_ids"]) if max_tokens else len(packed["input_ids"]) == rows
    same(model, packed, single)


@pytest.mark.usefixtures("uncompiled_flex")
@pytest.mark.parametrize("kind", ["llava", "openflamingo"])
def test_flex_attention_gives_the_loss_and_gradients_too(kind: str) -> None:
    torch.manual_seed(0)
    flamingo = dict(
        without=("connector", "feature_layer"),
        perceiver=dict(depth=1, latents=3, heads=2, head_width=4),
        cross_attn_every_n_layers=1,
        template="otter",
    )
    more: dict[str, Any] = flamingo if kind == "openflamingo" else {}
    language_model = LANGUAGE_MODELS["llama"]
    items, processor, model = build(
        type=kind, language_model=language_model, freeze=[], attn_implementation=FLEX, **more
    )
    packed, single = batches_of(processor, items, packing="shared", max_tokens=240)
    same(model.eval(), packed, single)  # it trains on GPUs only
    assert model.language_model.config._attn_implementation == FLEX


def test_packing_goes_with_checkpointing_adapters_and_sliding_windows() -> None:
    torch.manual_seed(0)
    language_model = {**SIZES, "model_type": "mistral", "sliding_window": 12, "num_key_value_heads": 1}
    adapters = dict(type="lora", targets=["language_model"], r=2, unfrozen=["connector"])
    items, processor, model = build(language_model=language_model, adapters=adapters)
    model.float().train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    packed, single = batches_of(processor, items, packing="shared")
    assert int(packed["position_ids"].max()) > 16
    same(model, packed, single)


@pytest.mark.parametrize("packing", ["rows", "shared"])
def test_a_flamingo_reads_the_images_of_a_sample_and_of_its_prefix(packing: str) -> None:
    torch.manual_seed(0)
    items, processor, model = build(
        without=("connector", "feature_layer"),
        type="openflamingo",
        freeze=[],
        perceiver=dict(depth=1, latents=3, heads=2, head_width=4),
        cross_attn_every_n_layers=1,
        template="otter",
    )
    model.train()
    model.activation_checkpointing_enable()
    for name, parameter in model.named_parameters():
        if name.endswith("_gate"):  # closed ones would hide which media are read
            torch.nn.init.constant_(parameter, 0.8)
    packed, single = batches_of(processor, items, packing=packing)
    slots = int((packed["input_ids"] == processor.image_token_id).sum())
    assert slots == (6 if packing == "shared" else len(single["input_ids"]))
    same(model, packed, single)


def test_a_language_model_that_drops_the_packing_is_refused() -> None:
    language_model = dict(model_type="falcon", hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    items, processor, model = build(language_model=language_model)
    packed, _ = batches_of(processor, items, packing="rows")
    with pytest.raises(ModelError, match="packing: falcon does not pass its arguments on to its attention"):
        loss_and_gradients(model, packed)


def test_a_row_is_the_prefix_and_what_each_question_adds() -> None:
    items, processor, _ = build()
    index = next(n for n in range(6) if len(items[n].turns) >= 4)
    examples: list[EncodedSample] = [processor.encode(each, index) for each in split_rounds(items[index])]
    row = prefix_tree_row(examples)
    prefix = int((row.segment_ids == 0).sum())
    assert prefix >= 4  # the image, at least
    assert row.prefix_ids.tolist() == [-1] * prefix + [0] * (len(row) - prefix)
    for number, example in enumerate(examples, start=1):
        branch = row.segment_ids == number
        assert torch.cat([row.input_ids[:prefix], row.input_ids[branch]]).equal(example.input_ids)
        assert row.position_ids[branch].tolist() == list(range(prefix, len(example.input_ids)))
        assert row.labels[branch][0] == -100


def test_two_equal_questions_keep_what_their_first_label_needs() -> None:
    items, processor, _ = build()
    example = processor.encode(split_rounds(items[0])[0], 0)
    row = prefix_tree_row([example, example])
    first = int((example.labels != -100).nonzero()[0])
    assert int((row.segment_ids == 0).sum()) == first - 1
    assert (row.labels != -100).sum() == 2 * (example.labels != -100).sum()


def test_a_single_question_is_a_row_of_its_own() -> None:
    items, processor, _ = build()
    example = processor.encode(split_rounds(items[0])[0], 0)
    row = prefix_tree_row([example])
    assert row.input_ids.equal(example.input_ids)
    assert set(row.segment_ids.tolist()) == {0}
    assert set(row.prefix_ids.tolist()) == {-1}


def test_images_that_come_later_are_not_shared_with_their_own_round() -> None:
    """As in the pool of REC, where some questions end in `<image>`; the other rounds begin with it."""
    torch.manual_seed(0)
    _, processor, model = build()
    model.float().train()
    turns = [{"from": "human", "value": "Where is it in <image>?"}, {"from": "gpt", "value": "There."}]
    turns += [{"from": "human", "value": "What is 1?"}, {"from": "gpt", "value": "It."}]
    turns += [{"from": "human", "value": "And this?"}, {"from": "gpt", "value": "Too."}]
    item = read_item({"image": Image.new("RGB", (8, 8)), "conversations": turns}, key="a.jsonl:3")
    assert [each.turns[0].text for each in split_rounds(item)] == [
        "Where is it in <image>?",
        "<image>\nWhat is 1?",
        "<image>\nAnd this?",
    ]
    examples = [processor.encode(each, 0) for each in split_rounds(item)]
    beginnings = [processor.length(each).beginning for each in split_rounds(item)]
    assert beginnings[0] != beginnings[1] == beginnings[2]
    packed = Collator(pad_token_id=0, packing="shared")([examples])
    assert len(packed["pixels"]) == 1
    assert int((packed["input_ids"] == processor.image_token_id).sum()) == 2 * 4
    same(model, packed, Collator(pad_token_id=0)(examples))


def test_what_cannot_share_is_said() -> None:
    image = Image.new("RGB", (8, 8))
    turns = [{"from": "human", "value": "<image> Where?"}, {"from": "gpt", "value": "There."}] * 2
    item = read_item({"images": [image, image], "conversations": turns}, key="a.jsonl:3")
    with pytest.raises(DataError, match=r"a.jsonl:3: expected all 2 <image> in the first question, found 1"):
        split_rounds(item)
    with pytest.raises(ConfigError, match=r"'none', 'rows', 'shared', found str 'share'"):
        Collator(pad_token_id=0, packing="share")  # type: ignore[arg-type]
    items, processor, model = build(attn_implementation="eager")
    batch = Collator(pad_token_id=0, packing="shared")([[processor.encode(split_rounds(items[0])[0], 0)]])
    with pytest.raises(ModelError, match=r"model_args.attn_implementation: expected 'sdpa' .*, found 'eager'"):
        loss_and_gradients(model, batch)
