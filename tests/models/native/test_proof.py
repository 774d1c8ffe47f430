"""A type without a file runs by its self-check, which is made once for the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ConfigError, ModelError
from mllm.geometry import resize
from mllm.models.native import family, placing, proof
from mllm.models.native.self_check import CheckResult
from tests.models.tiny_hf import build, save_tiny


@pytest.fixture
def unlisted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """InternVL as if it had no file."""
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(proof, "_PROVED", {})
    monkeypatch.setattr(family, "is_listed", lambda _: False)
    return str(save_tiny("internvl", tmp_path / "model"))


def never(*_: Any) -> Any:
    raise AssertionError("it was checked before")


def test_a_small_model_does_what_its_self_check_proves(unlisted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = build(unlisted)
    assert type(processor.codec).__name__ == "Shikra"
    assert not model.family.listed
    model.check_packing()
    assert model.supports_prefix_sharing
    monkeypatch.setattr(proof, "_PROVED", {})  # as in another process
    for name in ("check_files", "check_model"):
        monkeypatch.setattr(proof, name, never)
    assert build(unlisted)[0].family == model.family
    path = Path(unlisted) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "another": 1}))
    with pytest.raises(AssertionError, match="checked before"):
        build(unlisted)


def test_a_large_model_packs_once_that_is_proved(unlisted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "LARGEST_PROVED", 0)
    model, processor = build(unlisted)
    assert model.family.pack is None
    assert not model.supports_prefix_sharing
    checks = proof.proved(model, processor.tokenizer, unlisted, compute=True)
    assert not any(check.failed for check in checks)


def beside(processor: Any, size: tuple[int, int]) -> Any:
    return resize(size, (processor.size.width, processor.size.height))


def test_a_type_whose_boxes_would_be_wrong_does_not_run(unlisted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "in_tiles", beside)
    with pytest.raises(
        ConfigError,
        match=r"internvl has no family file, and its self-check fails, placement: an image of 200 x 100: .*"
        r" to add it write mllm/models/native/families/internvl\.py .* see docs/native\.md",
    ):
        build(unlisted)


def test_a_family_that_says_what_does_not_hold_is_refused(unlisted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "is_listed", lambda _: True)
    monkeypatch.setattr(placing, "in_tiles", beside)
    with pytest.raises(ModelError, match=r"the self-check of internvl fails, placement: .* `mllm model check "):
        build(unlisted)


def test_a_family_with_a_file_packs_no_rows_once_that_check_failed(
    unlisted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "is_listed", lambda _: True)
    build(unlisted)[0].check_packing()
    wrong = [CheckResult(name="packed rows", outcome="fail", why="another loss", needed=False)]
    monkeypatch.setattr(proof, "proved", lambda *_, **__: wrong)
    with pytest.raises(ModelError, match=r"internvl fails the check of packed rows \(another loss\): set .*packing"):
        build(unlisted)[0].check_packing()
