"""What holds of every family: the tiny stand-in of a type computes as its own class does, and passes its self-check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mllm.models.native import self_check
from tests.models.tiny_hf import ask, batch_of
from tools.native.check import Checked
from tools.native.stand_ins import save_stand_in


def stand_in(kind: str, folders: pytest.TempPathFactory) -> Checked:
    return Checked(save_stand_in(kind, folders.mktemp(kind)))


def assert_it_computes_as_its_own_class(checked: Checked) -> None:
    checked.same_logits(*checked.built, checked.items[0])
    checked.several_images()
    checked.evaluates()


def assert_its_self_check_passes(checked: Checked) -> None:
    model, processor = checked.built
    found = [*self_check.check_files(processor), *self_check.check_model(model, processor)]
    assert [check for check in found if check.failed] == []
    assert "a batch is its samples" in [check.name for check in found if check.outcome == "pass"]


def assert_ranks_stay_in_step(checked: Checked) -> None:
    """A batch without images runs the same layers, and gives the same weights a gradient, as one with: ranks that
    share a sharded model wait for each other in each of them.
    """
    model, processor = checked.built
    model.train()
    seeing, blind = (
        _run(model, batch_of(processor, [one])) for one in (checked.items[0], ask(question="Name an animal."))
    )
    model.eval()
    assert blind == seeing
    assert blind[0]


def _run(model: Any, batch: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """The layers in their order, and the weights that have a gradient."""
    ran: list[str] = []
    units = set(model._no_split_modules)
    hooks = [
        module.register_forward_pre_hook(lambda _, __, name=name: ran.append(name))
        for name, module in model.named_modules()
        if type(module).__name__ in units
    ]
    model.zero_grad()
    model(**batch).loss.backward()
    for hook in hooks:
        hook.remove()
    return ran, {name for name, weight in model.named_parameters() if weight.grad is not None}
