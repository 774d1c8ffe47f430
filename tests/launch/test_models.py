"""Two processes, now and then one with images and one without: training and generation neither hang nor differ from
one process, for every type of model, with the head tied to the embeddings and not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mllm.models.adapters.injection import inject_adapters
from mllm.models.adapters.settings import read_adapters
from mllm.models.runtime import loss
from tests.launch.launching import NEEDS_DEEPSPEED
from tests.models import tiny_flamingo, tiny_seq2seq
from tests.models.ranks import LAUNCHES, Case, check_ranks
from tests.models.tiny import PINPOINTS, TEXT, VISION, WORDS, make, make_batch, prompts, without_images
from tests.models.tiny_hf import FAMILIES, ask, batch_of, build, save_tiny

pytestmark = pytest.mark.slow

PERCEIVER = {"type": "perceiver", "latents": 3, "heads": 2, "head_width": 4}
MIXES: dict[str, dict[str, Any]] = {
    "one tower": {},
    "two towers and a perceiver": {
        "vision_tower": [VISION["clip"], VISION["siglip"]],
        "feature_layer": [[-1, -2], 0],
        "connector": PERCEIVER,
    },
    "tiles": {"tiling": {"type": "any_resolution", "pinpoints": PINPOINTS}},
}
LORA = {"type": "lora", "targets": ["language_model"], "r": 2, "unfrozen": ["connector", "embeddings"]}
BATCHES = 5
"""Not a multiple of those of a step: each is met by each rank."""
BLIND = (1, 2)
"""Batches without images."""


def llava(
    *, tied: bool, text: str = "llama", mix: str = "one tower", freeze: tuple[str, ...] = (), lora: bool = False
) -> Case:
    language_model = {**TEXT[text], "tie_word_embeddings": tied}
    model = make("siglip", freeze=freeze, **{"language_model": language_model, **MIXES[mix]})
    if lora:
        torch.manual_seed(0)
        inject_adapters(model, read_adapters(LORA), {})
    return _with_batches(model, partial(make_batch, model))


def packed(*, tied: bool) -> Case:
    """Rows of two samples behind what they share."""
    model, batches, asked = llava(tied=tied)
    return model, [_packed(batch) for batch in batches], asked


def _packed(batch: dict[str, Any]) -> dict[str, Any]:
    segments = torch.zeros_like(batch["input_ids"])
    half = segments.shape[1] - 4
    segments[:, half : half + 2], segments[:, half + 2 :] = 1, 2
    prefix = torch.full_like(segments, -1).masked_fill(segments > 0, 0)
    position = torch.arange(segments.shape[1]).expand_as(segments).clone()
    position[:, half + 2 :] -= 2
    rest = {name: tensor for name, tensor in batch.items() if name != "attention_mask"}
    return {**rest, "segment_ids": segments, "prefix_ids": prefix, "position_ids": position}


def flamingo(*, tied: bool, text: str = "llama", kind: str = "openflamingo") -> Case:
    language_model = {**tiny_flamingo.LMS[text], "tie_word_embeddings": tied}
    model = tiny_flamingo.make(kind=kind, language_model=language_model)
    return _with_batches(model, partial(tiny_flamingo.make_batch, model))


def _with_batches(model: Any, batch_of_seed: Callable[..., dict[str, Any]]) -> Case:
    batches = [batch_of_seed(seed=seed) for seed in range(BATCHES)]
    batches = [without_images(batch, model) if n in BLIND else batch for n, batch in enumerate(batches)]
    unlabelled = {name: value for name, value in batches[1].items() if name != "labels"}
    return model, batches, [prompts(batches[0]), unlabelled]


def native(folder: str) -> Case:
    model, processor = build(folder)
    items = [
        ask(key="b", question="Name an animal.") if seed in BLIND else ask((40 + seed, 20), key="a", seed=seed)
        for seed in range(BATCHES)
    ]
    batches = [batch_of(processor, [item]) for item in items]
    return model, batches, [batch_of(processor, [item], answer=False) for item in items[:2]]


def seq2seq(family: str) -> Case:
    model = tiny_seq2seq.make(language_model={**tiny_seq2seq.FAMILIES[family], "dropout_rate": 0.0})
    batches: list[dict[str, Any]] = []
    for seed in range(BATCHES):
        torch.manual_seed(seed)
        ids, labels = tiny_seq2seq.IDS.clone(), tiny_seq2seq.LABELS.clone()
        ids[ids > 3] = torch.randint(4, WORDS - 1, ids.shape)[ids > 3]
        labels[labels != -100] = ids[labels != -100]
        batches.append({"input_ids": ids, "attention_mask": tiny_seq2seq.MASK, "labels": labels})
    asked = {"input_ids": torch.tensor([[5, 6, 7, 8, 2], [3, 3, 11, 12, 2]])}
    return model, batches, [asked, asked]


def checkpointed(case: Callable[[], Case]) -> Case:
    model, *rest = case()
    model.activation_checkpointing_enable()
    return model, *rest


def in_pieces(case: Callable[[], Case]) -> Case:
    loss.LOGITS_AT_ONCE = 100  # one or two positions, until the next case
    return case()


def every_case(folder: Path) -> dict[str, Callable[[], Case]]:
    cases: dict[str, Callable[[], Case]] = {}
    for tied in (False, True):
        said = "tied" if tied else "untied"
        for mix in MIXES:
            cases[f"llava, {mix}, {said}"] = partial(checkpointed, partial(llava, tied=tied, mix=mix))
        cases[f"llava, gemma2, {said}"] = partial(llava, tied=tied, text="gemma2")
        cases[f"llava, connector alone, {said}"] = partial(llava, tied=tied, freeze=("vision_tower", "language_model"))
        cases[f"llava, lora, {said}"] = partial(llava, tied=tied, lora=True)
        cases[f"llava, packed, {said}"] = partial(packed, tied=tied)
        cases[f"llava, pieces, {said}"] = partial(in_pieces, partial(llava, tied=tied, text="gemma2"))
        for text in ("llama", "mpt", "opt"):
            cases[f"openflamingo, {text}, {said}"] = partial(flamingo, tied=tied, text=text)
        cases[f"otter, {said}"] = partial(flamingo, tied=tied, kind="otter")
        for family in FAMILIES:
            made = str(folder / f"{family}_{said}")
            cases[f"{family}, {said}"] = partial(checkpointed, partial(native, made))
        cases[f"smolvlm, pieces, {said}"] = partial(in_pieces, partial(native, str(folder / f"smolvlm_{said}")))
    for family in tiny_seq2seq.FAMILIES:
        cases[family] = partial(seq2seq, family)
    cases["t5, pieces"] = partial(in_pieces, partial(seq2seq, "t5"))
    return cases


WAYS = [pytest.param(way, marks=NEEDS_DEEPSPEED if way.startswith("zero") else ()) for way in LAUNCHES]


@pytest.fixture(scope="module", params=WAYS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("ranks")
    for family in FAMILIES:
        for tied in (False, True):
            save_tiny(family, folder / f"{family}_{'tied' if tied else 'untied'}", tied=tied)
    return check_ranks(folder, every_case(folder), way=request.param)


@pytest.mark.parametrize("case", every_case(Path()))
def test_two_processes_train_and_answer_as_one(found: dict[str, str], case: str) -> None:
    assert found[case] == ""
