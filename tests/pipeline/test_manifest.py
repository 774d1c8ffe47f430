"""A checkpoint that is not as it was written is told apart, whatever is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mllm.errors import RunError
from mllm.pipeline import manifest
from mllm.pipeline.manifest import MANIFEST, digest, faults, read_manifest, saved_at, write_manifest
from tests.pipeline.checkpoints import make


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("whole", [True, False])
def test_faults_finds_none_in_a_whole_checkpoint(ranks: int, whole: bool, tmp_path: Path) -> None:
    assert faults(make(tmp_path / "a", ranks=ranks, whole=whole)) == []


FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state_1.pth", "trainer_state.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("whole", [True, False])
def test_faults_names_a_file_that_is_missing(name: str, whole: bool, tmp_path: Path) -> None:
    folder = make(tmp_path / "a", ranks=2, whole=whole)
    (folder / name).unlink()
    expected = {"model.safetensors": "no weights", "optimizer.pt": "no optimizer", "scheduler.pt": "no scheduler"}
    if whole:
        assert f"{name} is missing" in faults(folder) or faults(folder) == ["no trainer_state.json"]
    elif name != "rng_state_1.pth":  # whose absence nothing tells
        assert faults(folder) == [expected.get(name, f"no {name}")]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("whole", [True, False])
def test_faults_names_a_file_that_is_cut_off(name: str, whole: bool, tmp_path: Path) -> None:
    folder = make(tmp_path / "a", ranks=2, whole=whole)
    content = (folder / name).read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        (folder / name).write_bytes(content[:length])
        (found,) = faults(folder)
        assert name in found, length


@pytest.mark.parametrize("name", FILES)
def test_faults_names_a_file_whose_bytes_are_others(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a", ranks=2)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert any(
        f"{name} differs from what was written" in found or "expected a JSON object" in found
        for found in faults(folder)
    )


def test_faults_wants_the_random_state_of_every_rank(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", ranks=2, whole=False)
    write_manifest(folder, ranks=3)
    assert faults(folder) == ["no rng_state_2.pth"]
    old = make(tmp_path / "b", ranks=3, whole=False)
    (old / "rng_state_1.pth").unlink()
    assert faults(old) == ["no rng_state_1.pth"]


@pytest.mark.parametrize(
    "names",
    [
        ["pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp", "scheduler.pt"],  # FSDP
        ["trained_in_full.safetensors", "optimizer_0/__0_0.distcp", "scheduler.pt"],  # FSDP of adapters
        ["global_step2/mp_rank_00_model_states.pt", "global_step2/zero_pp_rank_0_optim_states.pt"],  # DeepSpeed
    ],
)
def test_faults_knows_the_layouts_of_sharded_training(names: list[str], tmp_path: Path) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    torch.save({}, tmp_path / "rng_state.pth")
    (tmp_path / "trainer_state.json").write_text("{}")
    write_manifest(tmp_path, ranks=1)
    assert faults(tmp_path) == []
    (tmp_path / names[0]).unlink()
    assert f"{names[0]} is missing" in faults(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:-9], "manifest.json: expected a JSON object"),
        (lambda text: "[]", "manifest.json: expected a JSON object, found list"),
        (lambda text: "{}", "manifest.json: files: expected an object of files, found"),
        (lambda text: '{"files": {"a": 3}}', "manifest.json: files: expected an object of files, found"),
        (lambda text: '{"files": {"../a": {}}}', "manifest.json: files: expected paths inside its folder, found"),
        (lambda text: '{"files": {}, "saved_at": "today"}', "manifest.json: saved_at: expected a number, found str"),
        (lambda text: '{"files": {}, "saved_at": 1, "ranks": "2"}', "manifest.json: ranks: expected a whole number"),
        (lambda text: '{"files": {}, "saved_at": 1, "position": []}', "manifest.json: position: expected "),
        (
            lambda text: '{"files": {"/etc/passwd": {}}}',
            "manifest.json: files: expected paths inside its folder, found",
        ),
    ],
)
def test_a_damaged_manifest_is_a_fault(spoil: Callable[[str], str], message: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    (folder / MANIFEST).write_text(spoil((folder / MANIFEST).read_text()))
    (found,) = faults(folder)
    assert found.startswith(message)
    with pytest.raises(RunError):
        read_manifest(folder)
    assert saved_at(folder) > 0


@pytest.mark.parametrize(
    ("counted", "found"),
    [
        ('"global_step": NaN', "global_step: expected a whole number of at least 0"),
        ('"global_step": -1', "global_step: expected a whole number of at least 0, found int '-1'"),
        ('"global_step": "2"', "global_step: expected a whole number of at least 0, found str '2'"),
        ('"global_step": 1e9', "global_step: expected a whole number of at least 0"),
        ('"global_step": null', "global_step: expected a whole number of at least 0, found nothing"),
        ('"max_steps": [4]', "max_steps: expected a whole number, found list '[4]'"),
        ('"epoch": "x"', "epoch: expected a number or None, found str 'x'"),
    ],
)
def test_a_state_that_counts_in_no_numbers_is_a_fault(counted: str, found: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a", whole=False)
    (folder / "trainer_state.json").write_text(f"{{{counted}}}")
    (said,) = faults(folder)
    assert said.startswith(("trainer_state.json: " + found, "trainer_state.json: ")), said
    assert found in said or "NaN" in said


def test_digest_of_a_large_file_samples_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "READ_WHOLE", 1000)
    monkeypatch.setattr(manifest, "BLOCK", 50)
    monkeypatch.setattr(manifest, "SAMPLES", 8)
    path = tmp_path / "a"
    path.write_bytes(bytes(range(250)) * 8)
    before = digest(path)
    assert digest(path) == before
    for start in (0, 900, 1950):  # a page that never reached the disk
        content = bytearray(bytes(range(250)) * 8)
        content[start : start + 300] = bytes(len(content[start : start + 300]))
        path.write_bytes(content)
        assert digest(path) != before


def test_a_manifest_moves_with_its_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    shutil.copytree(folder, tmp_path / "b")
    assert faults(tmp_path / "b") == []
    assert saved_at(tmp_path / "b") == saved_at(folder)
    names = json.loads((folder / MANIFEST).read_text())["files"]
    assert sorted(names) == sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
