"""Planned batches: every item once, the same for all ranks, balanced, with the losses of the samples one by one."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mllm.cli import main
from mllm.config.command_line import parse
from mllm.config.config import load
from mllm.conversation.collator import Collator
from mllm.conversation.packing import Length, group_by_image
from mllm.pipeline import build as builder
from mllm.pipeline.planning import Cost, Measured, PlannedBatches, cost_of, deal, row_tokens
from mllm.pipeline.train_data import SeededEpochSampler, TrainDataset
from mllm.pipeline.trainer import Trainer
from mllm.records import read_item
from mllm.registry import DATASETS
from mllm.types import Item
from tests.marks import slow_but
from tests.pipeline.packed import build, same
from tests.pipeline.tiny import SCENES, Items, losses, write_config

COST = Cost(pair=0.01, image_token=0.5)
MIXED: dict[str, Any] = dict(
    type="ConcatDataset",
    datasets=[dict(SCENES, count=30, objects=[1, 1]), dict(SCENES, count=19, objects=[4, 4], questions_per_scene=4)],
)


def measured(index: int, *tokens: int, images: str | None = None, shared: int = 0) -> Measured:
    known = dict(images=shared, shared=shared, beginning=(9,) if shared else ())
    lengths = tuple(Length(tokens=each + shared, **known) for each in tokens)  # type: ignore[arg-type]
    return Measured(index=index, images=images, lengths=lengths)


def plan_of(dataset: TrainDataset, **options: Any) -> PlannedBatches:
    given = dict(batch_size=3, ranks=2, cost=COST, sharing=True, window=2) | options
    return PlannedBatches(dataset, SeededEpochSampler(dataset, seed=0), **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dataset() -> TrainDataset:
    """Its lengths, which plans ask for again and again, are measured once an epoch."""
    _, processor, _ = build()
    dataset = TrainDataset(DATASETS.make(MIXED), processor, split=True)
    measure, known = dataset.lengths, {}

    def lengths(index: int) -> Any:
        key = dataset.epoch, index
        if key not in known:
            known[key] = measure(index)
        return known[key]

    dataset.lengths = lengths  # type: ignore[method-assign]
    return dataset


ITEMS = st.lists(st.tuples(st.integers(1, 300), st.sampled_from([None, "a", "b", "c"])), min_size=1, max_size=40)


@given(items=ITEMS, batches=st.integers(1, 8), room=st.none() | st.integers(50, 400))
def test_every_item_is_dealt_once_and_no_batch_is_empty(
    items: list[tuple[int, str | None]], batches: int, room: int | None
) -> None:
    pieces = [measured(n, tokens, images=image, shared=40 if image else 0) for n, (tokens, image) in enumerate(items)]
    batches = min(batches, len(pieces))
    dealt = deal(pieces, batches, COST, room=room)
    assert len(dealt) == batches
    assert all(dealt)
    assert sorted(index for batch in dealt for index in batch) == list(range(len(pieces)))
    assert dealt == deal(pieces, batches, COST, room=room)


@given(
    lengths=st.lists(st.integers(1, 2000), min_size=64, max_size=64),
    seed=st.integers(0, 3),
)
def test_the_dearest_batch_is_near_the_mean_or_one_item(lengths: list[int], seed: int) -> None:
    """Longest processing time first is at most 4/3 of the best, which is the mean or more."""
    pieces = [measured(n, tokens) for n, tokens in enumerate(lengths)]
    dealt = deal(pieces, 16, COST)
    found = max(sum(COST([pieces[n]]) for n in batch) for batch in dealt)
    total = sum(COST([piece]) for piece in pieces)
    assert found <= max(total / 16 + max(COST([piece]) for piece in pieces) * 15 / 16, total / 16) + 1e-6


def test_items_about_the_same_images_go_together() -> None:
    pieces = [measured(n, 20, images="abcd"[n % 4], shared=100) for n in range(12)]
    dealt = deal(pieces, 4, COST)
    assert sorted(map(sorted, dealt)) == [[n, n + 4, n + 8] for n in range(4)]
    assert row_tokens([pieces[0], pieces[4]]) == 100 + 2 * 20
    narrow = deal(pieces, 4, COST, room=150)
    shared = [Counter(n % 4 for n in batch) for batch in narrow]
    assert sorted(index for batch in narrow for index in batch) == list(range(12))
    assert max(max(count.values()) for count in shared) <= 3


def test_cost_counts_tokens_what_they_see_and_images_once() -> None:
    """By hand: 100 tokens see 1 to 100, 20 behind them 101 to 120; 100 of them stand for the image."""
    one, two = measured(0, 20, images="a", shared=100), measured(1, 20, images="a", shared=100)
    assert COST([one]) == pytest.approx(120 + 0.01 * (5050 + 2210) + 0.5 * 100)
    assert COST([one, two]) == pytest.approx(140 + 0.01 * (5050 + 2 * 2210) + 0.5 * 100)
    assert COST([measured(0, 30)]) == pytest.approx(30 + 0.01 * 465)
    assert COST([measured(0, 3, 4)]) == pytest.approx(7 + 0.01 * (6 + 10))
    assert COST([measured(0)]) == 0
    assert (row_tokens([one]), row_tokens([one, two]), row_tokens([measured(0, 3, 4)])) == (120, 140, 7)


def test_deal_gives_the_dearest_first_to_the_cheapest_batch() -> None:
    """By hand: 7 | 5, then 7 | 9, then 10 | 9; the cheaper batch comes first."""
    pieces = [measured(n, tokens) for n, tokens in enumerate([7, 5, 4, 3])]
    assert deal(pieces, 2, Cost()) == [[1, 2], [0, 3]]


@pytest.mark.parametrize(
    ("room", "batches"), [(None, [[0, 1], [2, 3]]), (140, [[0, 1], [2, 3]]), (139, [[0, 2], [1, 3]])]
)
def test_deal_keeps_items_about_an_image_together_while_a_row_has_room(
    room: int | None, batches: list[list[int]]
) -> None:
    """By hand: together they make a row of 140 tokens and cost 284.7, less than the mean of 292.9."""
    pieces = [measured(n, 20, images="a", shared=100) for n in range(2)] + [measured(n, 100) for n in (2, 3)]
    assert deal(pieces, 2, COST, room=room) == batches


def test_deal_keeps_together_what_costs_just_the_mean() -> None:
    """By hand: 140 each."""
    pieces = [measured(n, 20, images="ab"[n // 2], shared=100) for n in range(4)]
    assert deal(pieces, 2, Cost()) == [[0, 1], [2, 3]]


def test_deal_takes_apart_what_is_dearer_than_the_mean() -> None:
    """By hand: together the first four cost 180, where the mean is 100; then 120 each, twice two, and 20."""
    pieces = [*(measured(n, 20, images="a", shared=100) for n in range(4)), measured(4, 20)]
    assert deal(pieces, 2, Cost()) == [[1, 3], [0, 2, 4]]


def test_deal_halves_the_group_of_most_items_where_batches_would_be_empty() -> None:
    """By hand: 103 and 1000, in three batches."""
    pieces = [*(measured(n, 1, images="a", shared=100) for n in range(3)), measured(3, 1000)]
    assert deal(pieces, 3, Cost()) == [[0], [1, 2], [3]]


def test_deal_spreads_what_costs_nothing() -> None:
    assert deal([measured(n) for n in range(4)], 2, Cost()) == [[0, 2], [1, 3]]


def test_an_image_that_all_ask_about_is_given_to_several_batches() -> None:
    pieces = [measured(n, 20, images="a", shared=100) for n in range(12)]
    assert sorted(map(len, deal(pieces, 4, COST))) == [3, 3, 3, 3]


@pytest.mark.parametrize(("ranks", "batch_size"), [(1, 4), (2, 3), (4, 1), (3, 20), (60, 1)])
def test_ranks_share_the_items_of_an_epoch(dataset: TrainDataset, ranks: int, batch_size: int) -> None:
    """Through accelerate's own sharding, which must neither drop nor repeat a batch."""
    plan = plan_of(dataset, ranks=ranks, batch_size=batch_size)
    shards = [list(BatchSamplerShard(plan, ranks, rank)) for rank in range(ranks)]  # type: ignore[arg-type]
    steps = -(-49 // (ranks * batch_size))
    assert {len(shard) for shard in shards} == {steps} == {len(plan) // ranks}
    dealt = Counter(index for shard in shards for batch in shard for index in batch)
    assert sorted(dealt) == list(range(49))
    assert sum(dealt.values()) == max(49, steps * ranks)
    interleaved = [shard[step] for step in range(steps) for shard in shards]
    assert interleaved == list(plan)


def test_what_does_not_fill_a_step_may_be_left_out(dataset: TrainDataset) -> None:
    plan = plan_of(dataset, drop_last=True)
    dealt = [index for batch in plan for index in batch]
    assert len(plan) == 16
    assert len(set(dealt)) == len(dealt) == 48


def test_epochs_differ_and_repeat(dataset: TrainDataset) -> None:
    def epoch(number: int) -> list[list[int]]:
        dataset.set_epoch(number)
        return list(plan_of(dataset))

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)
    dataset.set_epoch(0)


def test_ranks_wait_less_than_in_the_naive_order(dataset: TrainDataset) -> None:
    plan = plan_of(dataset, batch_size=4, window=16)
    costs = {index: COST([plan.measure(index)]) for index in range(len(dataset))}
    order = list(SeededEpochSampler(dataset, seed=0))
    naive = [order[start : start + 4] for start in range(0, 48, 4)]

    def waiting(batches: Sequence[Sequence[int]]) -> float:
        """The dearest rank of each step over the mean."""
        sums = torch.tensor([sum(costs[index] for index in batch) for batch in batches]).reshape(-1, 2)
        return float(sums.max(dim=1).values.sum() / sums.mean(dim=1).sum())

    assert waiting(list(plan)[: len(naive)]) < 1.05 < 1.15 < waiting(naive)


def test_no_rank_has_the_dearer_batches_and_no_time_the_dearer_steps(dataset: TrainDataset) -> None:
    """Batches are dealt cheapest first: neither ranks nor the steps of a window may come in that order."""
    plan = plan_of(dataset, batch_size=1, window=24)
    costs = [COST([plan.measure(index) for index in batch]) for batch in plan]
    steps = list(zip(costs[::2], costs[1::2], strict=True))
    dearer = Counter(first > second for first, second in steps if first != second)
    assert min(dearer[True], dearer[False]) >= 4
    sums = [sum(step) for step in steps]
    falls = sum(later < earlier for earlier, later in pairwise(sums))
    assert 4 <= falls <= len(sums) - 5


@pytest.mark.parametrize("done", [0, 1, 3, 4, 7, 8])
def test_a_run_that_goes_on_measures_only_what_is_left(
    dataset: TrainDataset, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(dataset)
    whole = list(BatchSamplerShard(plan, 2, 1))  # type: ignore[arg-type]
    asked: list[int] = []
    measure = plan.measure
    monkeypatch.setattr(plan, "measure", lambda index: asked.append(index) or measure(index))
    plan.done = done
    rest = list(SkipBatchSampler(BatchSamplerShard(plan, 2, 1), skip_batches=done))  # type: ignore[arg-type]
    assert rest == whole[done:]
    assert len(asked) == 49 - min(done // 2, 3) * 12


def test_a_window_is_measured_while_the_one_before_is_handed_out(
    dataset: TrainDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twelve items and four batches each."""
    plan = plan_of(dataset)
    asked: list[int] = []
    measure = plan.measure
    monkeypatch.setattr(plan, "measure", lambda index: asked.append(index) or measure(index))
    assert [len(asked) for _, _ in zip(range(8), plan, strict=False)] == [12, 15, 18, 21, 24, 27, 30, 33]


def test_a_window_may_be_one_step(dataset: TrainDataset) -> None:
    dealt = [index for batch in plan_of(dataset, window=1) for index in batch]
    assert sorted(set(dealt)) == list(range(49))


def test_items_have_their_images_in_common_where_rows_share_them(dataset: TrainDataset) -> None:
    images, lengths = dataset.lengths(0)
    assert images
    assert plan_of(dataset).measure(0) == Measured(index=0, images=images, lengths=lengths)
    assert plan_of(dataset, sharing=False).measure(0) == Measured(index=0, images=None, lengths=lengths)


def test_lengths_are_those_of_the_rows(dataset: TrainDataset) -> None:
    for index in range(len(dataset)):
        images, lengths = dataset.lengths(index)
        examples = dataset[index]
        assert [each.tokens for each in lengths] == [len(example.input_ids) for example in examples]
        assert [each.shared for each in lengths] == [example.images_end for example in examples]
        assert {each.images for each in lengths} == {4}
        assert images == examples[0].images


def test_lengths_need_no_images(dataset: TrainDataset, tmp_path: Path) -> None:
    """Neither pixels nor headers, where all images become as many tokens."""
    conversation = [
        {"from": "human", "value": "<image>\nWhere?"},
        {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
    ]
    record = {"image": "none.jpg", "target": {"boxes": [[900, 1, 990, 9]]}, "conversations": conversation}
    absent = read_item(record, key="a", folder=str(tmp_path))
    Image.new("RGB", (1000, 10)).save(tmp_path / "some.jpg")
    present = read_item({**record, "image": "some.jpg"}, key="b", folder=str(tmp_path))
    length = dataset.processor.length(absent)
    assert length.tokens == len(dataset.processor.encode(present, 0).input_ids)


def test_max_length_bounds_lengths(dataset: TrainDataset) -> None:
    processor = build()[1]
    item = next(dataset.items[n] for n in range(30, 49))
    whole = processor.length(item)
    processor.max_length = whole.tokens - 5
    assert processor.length(item) == replace(whole, tokens=whole.tokens - 5)


def test_what_cannot_be_measured_is_planned_all_the_same(dataset: TrainDataset, tmp_path: Path) -> None:
    """Sizes that cannot be read; whoever opens the image raises, or takes another item."""
    items = Items([replace(item, images=(_Gone(),)) for item in (dataset.items[n] for n in range(5))])
    broken = TrainDataset(items, build(tiling=dict(type="crops", rows=1, columns=2))[1])
    assert broken.lengths(0) == ((), ())
    plan = plan_of(broken, batch_size=2)
    assert sorted(index for batch in plan for index in batch) == list(range(5))


class _Gone:
    @property
    def size(self) -> tuple[int, int]:
        from mllm.errors import ImageError

        raise ImageError("gone")

    def open(self) -> Image.Image:
        raise AssertionError


def test_nothing_fills_a_step(dataset: TrainDataset) -> None:
    assert list(plan_of(dataset, batch_size=50, ranks=1, drop_last=True)) == []


def asked(count: int, words: str = "\nWhat?", *, image: Any = None) -> list[Item]:
    """Items of their own about one image."""
    image = image or Image.new("RGB", (32, 32), "red")
    ref = read_item({"image": image, "conversations": [{"from": "human", "value": "<image>"}]}, key="").images
    turns = [{"from": "human", "value": f"<image>{words}"}, {"from": "gpt", "value": "Red."}]
    return [replace(read_item({"image": image, "conversations": turns}, key=f"{n}"), images=ref) for n in range(count)]


@pytest.mark.parametrize("room", [None, 32])
def test_items_of_a_batch_share_their_images(room: int | None) -> None:
    torch.manual_seed(0)
    _, processor, model = build()
    model.float().train()
    items = asked(3) + asked(2, "\nWhich colour?") + asked(2, image=Image.new("RGB", (32, 32), "blue"))
    items = [items[n] for n in (0, 3, 5, 1, 4, 6, 2)]
    entries = [[processor.encode(item, n)] for n, item in enumerate(items)]
    pad = processor.tokenizer.pad_token_id
    packed = Collator(pad_token_id=pad, packing="shared", max_tokens=room)(entries)
    assert len(packed["pixels"]) == 3
    assert sorted(packed["index"].tolist()) == list(range(7))
    slots = int((packed["input_ids"] == processor.image_token_id).sum())
    assert slots == 4 * 3 if room is None else 4 * 3 < slots < 4 * 7
    assert room is None or packed["input_ids"].shape[1] <= room
    same(model, packed, Collator(pad_token_id=pad)([example for entry in entries for example in entry]))


@pytest.mark.parametrize(("template", "words"), [("plain", "\nWhat?"), ("completion", "")])
def test_answers_right_behind_the_image_share_its_pixels_only(template: str, words: str) -> None:
    """The last token of the image predicts several first words: each caption has a copy of its tokens."""
    torch.manual_seed(0)
    _, processor, model = build(template=template)
    model.float().train()
    entries = [[processor.encode(item, n)] for n, item in enumerate(asked(3, words))]
    assert [len(group) for group in group_by_image(entries, None)] == [1, 1, 1]
    assert processor.length(asked(1, words)[0]).shared == 0
    packed = Collator(pad_token_id=0, packing="shared")(entries)
    assert len(packed["pixels"]) == 1
    same(model, packed, Collator(pad_token_id=0)([example for entry in entries for example in entry]))


def test_texts_of_one_item_share_their_beginning_and_others_do_not() -> None:
    _, processor, _ = build()
    turns = [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "Hi."}]
    example = processor.encode(read_item({"conversations": turns}, key="a"), 0)
    assert [len(group) for group in group_by_image([[example, example], [example]], None)] == [2, 1]


def test_costs_follow_from_the_parts() -> None:
    """Of a tower and a language model of about equal weight, four patches an image, four tokens of it."""
    _, processor, model = build()
    cost = cost_of(model, processor.view)
    sizes = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (("vision", model.vision_tower), ("text", model.language_model))
    }
    assert cost.pair == 1 / (6 * 16)
    assert cost.image_token == pytest.approx(sizes["vision"] / sizes["text"], rel=0.01)
    model.vision_tower.requires_grad_(False)
    assert cost_of(model, processor.view).image_token == pytest.approx(cost.image_token / 3, rel=0.01)
    model.language_model.requires_grad_(False)  # forward, and backward to what is before it: two passes of three
    assert cost_of(model, processor.view).image_token == pytest.approx(cost.image_token / 2, rel=0.01)


def stub_of(vision: int, *, patch_size: Any = None) -> Any:
    """A language model of ten weights and width 4, behind a tower of so many."""
    sizes = {"language_model.weight": 10} | ({"vision_tower.weight": vision} if vision else {})
    parameters = [(name, torch.nn.Parameter(torch.zeros(size))) for name, size in sizes.items()]
    return SimpleNamespace(
        named_parameters=lambda: parameters,
        config=SimpleNamespace(
            get_text_config=lambda: SimpleNamespace(hidden_size=4),
            vision_config=SimpleNamespace(**({} if patch_size is None else {"patch_size": patch_size})),
        ),
    )


class StubView:
    """Of 32 x 32 pixels, which become four tokens."""

    token, feature = "<image>", "<p>"

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        assert size == (448, 448)
        return "<i><p><p><p><p></i>"

    def __call__(self, image: Image.Image) -> dict[str, torch.Tensor]:
        return {"pixels": torch.zeros(1, 3, 32, 32), "grid": torch.zeros(99, dtype=torch.long)}


@pytest.mark.parametrize(("patch_size", "patches"), [(8, 16), ((8, 4), 16), (16, 4), (None, 4)])
def test_the_cost_of_an_image_token_follows_from_its_patches(patch_size: Any, patches: int) -> None:
    model: Any = stub_of(20, patch_size=patch_size)
    view: Any = StubView()
    assert cost_of(model, view) == Cost(pair=1 / 24, image_token=patches / 4 * 20 / 10)
    for _, parameter in model.named_parameters()[1:]:
        parameter.ds_numel = 60  # what DeepSpeed has divided among ranks
    assert cost_of(model, view) == Cost(pair=1 / 24, image_token=patches / 4 * 60 / 10)


def test_a_model_without_images_pays_for_tokens_alone() -> None:
    view: Any = StubView()
    assert cost_of(stub_of(0), view) == Cost(pair=1 / 24, image_token=0.0)
    view.token = None
    assert cost_of(stub_of(20), view) == Cost(pair=1 / 24)


def test_a_flamingo_pays_for_patches_that_become_no_tokens() -> None:
    perceiver = dict(depth=1, latents=3, heads=2, head_width=4)
    changes: dict[str, Any] = dict(type="openflamingo", perceiver=perceiver, cross_attn_every_n_layers=1, freeze=[])
    _, processor, model = build(without=("connector", "feature_layer"), template="otter", **changes)
    sizes = [sum(p.numel() for n, p in model.named_parameters() if n.startswith(part)) for part in ("vision", "lang")]
    assert cost_of(model, processor.view).image_token > sizes[0] / sizes[1]


@pytest.mark.parametrize("packing", slow_but(["shared"], ["rows", "shared"]))
def test_a_run_that_ends_in_mid_epoch_goes_on_with_the_same_batches(
    packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two workers and accumulation: of 49 items 13 batches, 7 steps an epoch; cut after step 10."""
    batches: list[list[Any]] = []
    compute = Trainer.compute_loss

    def compute_loss(self: Trainer, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        batches.append([self.state.global_step, {name: inputs[name].tolist() for name in ("index", "input_ids")}])
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(Trainer, "compute_loss", compute_loss)
    config = write_config(
        tmp_path,
        training_args={"max_steps": 14, "save_strategy": "steps", "save_steps": 10, "dataloader_num_workers": 2}
        | {"gradient_accumulation_steps": 2, "logging_steps": 1},
        data_args={"train": MIXED, "collator_kwargs": {"packing": packing, "max_tokens": 150, "window": 2}},
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["train", str(config), "--output_dir", str(whole)]) == 0
    unbroken = list(batches)
    assert [step for step, _ in unbroken] == [step for step in range(14) for _ in range(1 if step % 7 == 6 else 2)]
    epochs = [unbroken[:13], unbroken[13:]]
    for epoch in epochs:
        assert {index for _, seen in epoch for index in seen["index"]} == set(range(49))
    assert [seen["index"] for _, seen in epochs[0]] != [seen["index"] for _, seen in epochs[1]]
    batches.clear()
    shutil.copytree(whole / "checkpoint-10", cut / "checkpoint-10")
    assert main(["train", str(config), "--output_dir", str(cut), "--resume_from_checkpoint", "auto"]) == 0
    assert batches == unbroken[19:]
    assert losses(cut) == pytest.approx(losses(whole), abs=1e-6)
    assert json.loads((cut / "trainer_state.json").read_text())["epoch"] == 2


def test_a_step_has_the_loss_of_its_samples_one_by_one(tmp_path: Path) -> None:
    """Every labelled token of an optimizer step counts alike, however its rows are filled."""
    single = dict(type="ConcatDataset", datasets=[dict(SCENES, count=11), dict(SCENES, count=9, tasks=["count"])])
    training = dict(max_steps=5, gradient_accumulation_steps=2)
    config = write_config(tmp_path, training_args=training, data_args={"train": single})
    found: list[dict[int, float]] = []
    for packing in ("none", "rows", "shared"):
        flags = ["--output_dir", str(tmp_path / packing), "--cfg-options"]
        room = "" if packing == "none" else ", 'max_tokens': 90"
        flags += [f"data_args.collator_kwargs={{'packing': '{packing}', 'window': 1{room}}}"]
        assert main(["train", str(config), *flags]) == 0
        found.append(losses(tmp_path / packing))
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    assert found[2] == pytest.approx(found[0], abs=1e-5)


def test_what_cannot_be_planned_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, data_args={"collator_kwargs": {"packing": "rows", "window": -1}})
    assert main(["train", str(config), "--output_dir", str(tmp_path / "out")]) == 1
    assert "window: expected a whole number of at least 0 or None, found int '-1'" in capsys.readouterr().err


def test_the_order_follows_from_the_seed_and_the_epoch(dataset: TrainDataset) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        dataset.set_epoch(epoch)
        return list(SeededEpochSampler(dataset, seed=seed))

    assert order(7, 5) == order(7, 5)
    assert len({tuple(order(seed, epoch)) for seed in (1, 7) for epoch in (0, 5)}) == 4
    assert sorted(order(7, 5)) == list(range(len(dataset)))
    dataset.set_epoch(0)


def test_a_sequential_run_keeps_the_order_of_the_dataset(tmp_path: Path) -> None:
    config = write_config(tmp_path, training_args={"train_sampling_strategy": "sequential"})
    cfg, args = load(parse([str(config), "--output_dir", str(tmp_path / "out"), "--do_train"]))
    trainer = builder.build(cfg.to_dict(), args)
    batches = [batch["index"].tolist() for batch in trainer.get_train_dataloader()]
    assert list(chain(*batches)) == list(range(40))
