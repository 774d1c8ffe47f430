"""The head runs on labelled positions only, in pieces; loss and gradients are those of the full logits."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from mllm.errors import ModelError
from mllm.models.runtime import loss
from mllm.models.runtime.head import values_of_logits
from mllm.models.runtime.loss import labelled_loss
from tests.marks import grid
from tests.models.tiny import SIZES, TEXT, gradients, make, make_batch

PIECES = 100
"""Logits at once: two positions of these models' vocabulary."""


def of_full_logits(model, batch) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs).logits[:, :-1].float()
    return cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())


@pytest.mark.parametrize(("text", "at_once"), grid([*TEXT], [loss.LOGITS_AT_ONCE, PIECES]))
def test_equals_the_loss_of_the_full_logits(text, at_once, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    model = make(text=text)
    batch = make_batch(model)
    model(**batch).loss.backward()
    found = gradients(model)
    model.zero_grad()
    expected = of_full_logits(model, batch)
    expected.backward()
    torch.testing.assert_close(model(**batch).loss, expected, rtol=1e-5, atol=1e-5)
    wanted = gradients(model)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("text", ["gemma2", "cohere", "granite"])
def test_the_language_models_own_loss_is_the_same(text: str) -> None:
    """Its own forward applies the soft cap or the scale that comes after its head."""
    model = make(text=text)
    batch = make_batch(model)
    embeds = model.embed(batch["input_ids"], batch["pixels"], batch["image_index"])
    own = model.language_model(inputs_embeds=embeds, attention_mask=batch["attention_mask"], labels=batch["labels"])
    torch.testing.assert_close(model(**batch).loss, own.loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(**batch, return_logits=True).logits, own.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("at_once", "expected"), [(loss.LOGITS_AT_ONCE, [7]), (PIECES, [2, 2, 2, 1])])
def test_only_labelled_positions_reach_the_head(at_once, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    model = make()
    head, rows = model.language_model.lm_head, []
    own = head.forward
    head.forward = lambda states: rows.append(states.shape[-2]) or own(states)
    model(**make_batch(model)).loss.backward()
    assert rows[: len(expected)] == expected
    assert len(rows) == 2 * len(expected) - 1  # again for the gradients, but for the head's own call
    del rows[:]
    with torch.no_grad():
        model(**make_batch(model))
    assert rows == expected


class Largest(TorchDispatchMode):
    """How many elements the largest tensor had that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(t.numel() for t in (made,) if isinstance(t, torch.Tensor))])
        return made


def test_the_logits_of_all_positions_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by an operation, forwards or backwards, nor for the backward pass, nor in evaluation."""
    vocabulary, positions, at_once = 5000, 300, 20 * 5000
    config = AutoConfig.for_model("llama", **{**SIZES, "vocab_size": vocabulary, "num_hidden_layers": 1})
    language_model = AutoModelForCausalLM.from_config(config)
    text = torch.randn(1, positions + 1, SIZES["hidden_size"])
    labels = torch.randint(0, vocabulary, (1, positions + 1))

    def held(grad: bool) -> tuple[int, int]:
        """Elements of the largest tensor, and of all that the backward pass is to read but the head's weight."""
        kept: list[int] = []
        with Largest() as largest, torch.set_grad_enabled(grad):
            with saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
                run = partial(language_model, inputs_embeds=text, use_cache=False)
                given = {"num_items_in_batch": None, "return_logits": False}
                found = labelled_loss(language_model, run, labels, **given).loss
            if grad:
                found.backward()
        return largest.elements, sum(size for size in kept if size != vocabulary * SIZES["hidden_size"])

    whole = positions * vocabulary
    most, kept = held(grad=True)
    assert most == whole
    assert kept >= whole
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
    most, kept = held(grad=True)
    assert most <= at_once
    assert kept < 0.2 * whole
    most, kept = held(grad=False)
    assert most <= at_once
    assert kept == 0


def test_a_model_without_a_head_is_refused() -> None:
    body = make().language_model.model
    with pytest.raises(ModelError, match="LlamaModel has no head that gives logits"):
        values_of_logits(body, lambda: None, torch.ones(1, 1).bool(), lambda *_: torch.ones(1), at_once=None)


def test_divides_by_the_items_of_the_whole_step() -> None:
    model = make()
    batch = make_batch(model)
    mean = model(**batch).loss
    torch.testing.assert_close(model(**batch, num_items_in_batch=torch.tensor(14)).loss, mean / 2)
    torch.testing.assert_close(model(**batch, num_items_in_batch=14).loss, mean / 2)


@pytest.mark.parametrize("return_logits", [False, True])
def test_nothing_labelled_is_a_loss_of_zero(return_logits: bool) -> None:
    model = make()
    batch = make_batch(model)
    batch["labels"][:] = -100
    loss = model(**batch, return_logits=return_logits).loss
    loss.backward()
    assert loss.item() == 0
    found = gradients(model)
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("text", ["llama", "gpt_neox", "gemma2"])
def test_rows_packed_by_position_do_not_see_one_another(text: str) -> None:
    model = make(text=text)
    batch = make_batch(model)
    lengths = batch["attention_mask"].sum(1).tolist()

    def packed(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([row[:length] for row, length in zip(rows, lengths, strict=True)])[None]

    together = model(
        input_ids=packed(batch["input_ids"]),
        labels=packed(batch["labels"]),
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
        pixels=batch["pixels"],
        image_index=batch["image_index"],
    )
    torch.testing.assert_close(together.loss, model(**batch).loss, rtol=1e-5, atol=1e-5)
