"""What holds of every family: the tiny stand-in of a type computes as its own class does, and passes its self-check."""

from __future__ import annotations

import pytest

from mllm.models.native import self_check
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
