"""`mllm model check`: the table, and its exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from mllm import cli
from mllm.commands.model.check import print_checks
from mllm.geometry import resize
from mllm.models.native import placing, proof
from tests.models.tiny_hf import save_tiny


def test_check_folder_prints_every_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(save_tiny("qwen2_vl", tmp_path))
    print_checks(folder, compute=True)
    said = capsys.readouterr().out
    assert said.startswith("qwen2_vl, a family with a file\n\nrequired:\n  placement")
    assert said.count(" pass") == 12
    assert "optional (off where it fails):\n  answers in a batch" in said


def test_check_folder_ends_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(processor: Any, size: tuple[int, int]) -> Any:
        return resize(size, (size[1], size[0]))

    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(proof, "_PROVED", {})
    monkeypatch.setattr(placing, "in_whole_patches", halved)
    folder = str(save_tiny("qwen2_vl", tmp_path / "model"))
    with pytest.raises(typer.Exit) as caught:
        print_checks(folder, compute=False)
    assert caught.value.exit_code == 1
    assert "placement                       fail            an image of 200 x 100" in capsys.readouterr().out


def test_a_check_without_the_weights_passes_is_asked_for_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(proof, "_PROVED", {})
    folder = str(save_tiny("qwen2_vl", tmp_path / "model"))
    assert cli.main(["model", "check", folder, "--no-compute"]) == 0
    said = capsys.readouterr().out
    assert (said.count(" pass"), "answers in a batch" in said) == (4, False)
