"""BLIP-2 and InstructBLIP: a few tokens of the image before the prompt."""

from __future__ import annotations

import pytest

from mllm.models.native import self_check
from tests.models.native.parity import assert_ranks_stay_in_step
from tools.native.check import Checked
from tools.native.stand_ins import save_stand_in


@pytest.fixture(scope="module", params=["blip-2", "instructblip"])
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return Checked(save_stand_in(request.param, tmp_path_factory.mktemp(request.param)))


def test_logits_and_answers_are_those_of_its_own_class(checked: Checked) -> None:
    checked.same_logits(*checked.built, checked.items[0])
    checked.evaluates()


def test_its_self_check_passes(checked: Checked) -> None:
    model, processor = checked.built
    found = [*self_check.check_files(processor), *self_check.check_model(model, processor)]
    assert [check for check in found if check.failed] == []
    assert "a batch is its samples" in [check.name for check in found if check.outcome == "pass"]


def test_ranks_stay_in_step_where_one_has_no_image(checked: Checked) -> None:
    assert_ranks_stay_in_step(checked)
