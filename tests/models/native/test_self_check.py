"""Planted faults are told by the check that is about them; each family without faults fails none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mllm.models.native.positions import as_numbered
from mllm.models.native.self_check import CheckResult, check_files, check_model
from tests.models.tiny_hf import build

CORES = ("qwen3_vl", "internvl", "paligemma")


def failures(checks: list[CheckResult]) -> dict[str, str]:
    return {check.name: check.why for check in checks if check.failed}


@pytest.mark.parametrize("name", [*CORES, pytest.param("smolvlm", marks=pytest.mark.slow)])
def test_look_and_run_find_nothing(folders: dict[str, Path], name: str) -> None:
    model, processor = build(str(folders[name]))
    checks = [*check_files(processor), *check_model(model, processor)]
    assert not failures(checks)
    assert sum(check.outcome == "pass" for check in checks) >= 7


@pytest.fixture
def planted(folders: dict[str, Path]) -> tuple[Any, Any]:
    """Qwen3-VL, whose family the test may change."""
    model, processor = build(str(folders["qwen3_vl"]))
    return model, processor


def plant(model: Any, **changes: Any) -> None:
    model.family = replace(model.family, **changes)
    model.view.family = model.family


def one_too_many(config: Any, image_processor: Any, size: tuple[int, int]) -> str:
    canvas = (-(-size[0] // 8), -(-size[1] // 8))
    return "<|image_pad|>" * (canvas[0] * canvas[1] + 1)


def test_run_tells_a_wrong_number_of_features(planted: tuple[Any, Any]) -> None:
    model, processor = planted
    plant(model, placeholder_tokens=one_too_many)
    found = failures(check_model(model, processor))["a feature for each token"]
    assert found == "expected 56 tokens, one for a feature, found 41; an image of 64 x 40"


def test_look_tells_ids_that_are_not_the_processors(planted: tuple[Any, Any]) -> None:
    _, processor = planted
    processor.view.around = ("", "a")
    found = failures(check_files(processor))
    assert "ids differ from place" in found["prompt ids"]


def test_look_tells_a_count_that_is_not_the_processors(planted: tuple[Any, Any]) -> None:
    _, processor = planted
    processor.view._counted += 1
    assert "by the size alone" in failures(check_files(processor))["token count by size"]


def by_the_batch(model: Any, ids_BT: Tensor, labels_BT: Tensor | None, images: Any) -> dict[str, Tensor]:
    """Positions that count from the number of rows on."""
    places_T = torch.arange(ids_BT.shape[1]) * len(ids_BT)
    return {"mm_token_type_ids": model.image_marks(ids_BT), "position_ids": places_T.expand(3, *ids_BT.shape)}


def test_run_tells_positions_that_depend_on_the_batch(planted: tuple[Any, Any]) -> None:
    model, processor = planted
    plant(model, more=by_the_batch)
    found = failures(check_model(model, processor))
    assert "logits of sample 'a' in a batch differ by up to" in found["a batch is its samples"]
    assert "the model's own inputs" in found


def mixed(model: Any, rows: Any, images: Any) -> dict[str, Any]:
    """Text positions where the model has those of space."""
    return as_numbered(model, rows, images)


def test_run_tells_packed_rows_that_differ(planted: tuple[Any, Any]) -> None:
    model, processor = planted
    plant(model, pack=mixed)
    found = failures(check_model(model, processor))
    assert "that of its samples, found" in found["packed rows"]
    assert "rows that share an image" in found


def test_run_tells_what_is_not_remembered_of_a_shared_beginning(planted: tuple[Any, Any]) -> None:
    model, processor = planted
    plant(model, beside=())
    assert "answers that share an image" in failures(check_model(model, processor))
