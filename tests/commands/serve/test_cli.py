"""The flags of `mllm serve` and `mllm web`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mllm.cli import main

pytest.importorskip("fastapi")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What servers were started with, which are not started."""
    from mllm.serve.api import server

    started: list[Any] = []
    monkeypatch.setattr(server, "run_server", started.append)
    monkeypatch.delenv("MLLM_API_KEY", raising=False)
    return started


def test_models_are_named_by_their_folders_or_as_said(settings: list[Any], tmp_path: Path) -> None:
    (tmp_path / "run1").mkdir()
    (tmp_path / "a=b").mkdir()
    assert main(["serve", str(tmp_path / "run1"), f"best={tmp_path}", str(tmp_path / "a=b"), "--max_rows", "3"]) == 0
    assert settings[0].models == {
        "run1": str(tmp_path / "run1"),
        "best": str(tmp_path),
        "a=b": str(tmp_path / "a=b"),
    }
    assert (settings[0].limits.max_rows, settings[0].host, settings[0].web) == (3, "127.0.0.1", False)


def test_the_page_keeps_reports_unless_told_where(settings: list[Any], tmp_path: Path) -> None:
    assert main(["web", str(tmp_path), "--examples", str(tmp_path)]) == 0
    assert main(["serve", str(tmp_path)]) == 0
    assert [(each.web, each.reports) for each in settings] == [(True, Path("bad_answers.jsonl")), (False, None)]


def test_the_key_is_read_from_a_file_or_the_environment(
    settings: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("sesame\n")
    assert main(["serve", str(tmp_path), "--api_key_file", str(tmp_path / "key")]) == 0
    monkeypatch.setenv("MLLM_API_KEY", "open")
    assert main(["serve", str(tmp_path)]) == 0
    assert [each.key for each in settings] == ["sesame", "open"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected DIR"),
        (["none"], "none: expected the folder of a trained model"),
        (["{tmp}", "{tmp}"], "expected another name, as NAME=DIR"),
        (["{tmp}", "--api_key_file", "{tmp}/none"], "--api_key_file: expected a readable text file"),
        (["{tmp}", "--api_key_file", "/dev/null"], "--api_key_file: expected a readable text file"),
        (["{tmp}", "--api_key_file", "{tmp}/empty"], "--api_key_file: expected a key"),
        (["{tmp}", "--examples", "{tmp}"], "only `mllm web` has a page"),
        (["m", "--backend", "http://x/v1", "--dtype", "float32"], "not loaded here"),
        (["{tmp}", "--port", "70000"], "65535"),
    ],
)
def test_what_cannot_be_started(
    settings: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (tmp_path / "empty").touch()
    assert main(["serve", *(word.format(tmp=tmp_path) for word in words)]) != 0
    assert said in " ".join(capsys.readouterr().err.split())
    assert settings == []
