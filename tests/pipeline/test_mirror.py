"""Checkpoints in object storage: whole or passed over, and a run on an empty disk goes on from them."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from mllm.cli import main
from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError, RunError
from mllm.pipeline.manifest import MANIFEST, faults, read_manifest, write_manifest
from mllm.pipeline.mirror import Mirror, prepare
from tests.object_storage import s3_on_loopback
from tests.pipeline.checkpoints import make
from tests.pipeline.tiny import losses, write_config

STEPS: dict[str, Any] = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
AUTO = ["--resume_from_checkpoint", "auto"]


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a config, of `out` and of its mirror `there`."""
    folder = tmp_path_factory.mktemp("mirrored")
    write_config(folder, training_args=STEPS)
    assert train(folder, folder / "out", folder / "there") == 0
    return folder


@pytest.fixture(scope="module")
def s3() -> Iterator[fsspec.AbstractFileSystem]:
    with s3_on_loopback("runs") as system:
        yield system


def train(folder: Path, out: Path, there: Path | str, *words: str) -> int:
    url = there if isinstance(there, str) else there.as_uri()
    return main(["train", str(folder / "tiny.py"), "--output_dir", str(out), "--mirror_dir", url, *words])


def arguments(folder: Path, url: str, **given: Any) -> RunArguments:
    own: dict[str, Any] = {"output_dir": str(folder), "mirror_dir": url, "do_train": True, "max_steps": 8}
    return RunArguments(use_cpu=True, report_to="none", **{**own, **given})


def listed(folder: Path) -> dict[str, bytes]:
    """The files that a manifest lists, and itself."""
    manifest = read_manifest(folder)
    assert manifest is not None
    return {name: (folder / name).read_bytes() for name in (*manifest["files"], MANIFEST)}


def found(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_run_copies_checkpoints_and_model_and_keeps_the_limit_there(mirrored: Path) -> None:
    out, there = mirrored / "out", mirrored / "there"
    expected = set(listed(out))
    for name in ("checkpoint-4", "checkpoint-6"):
        assert listed(there / name) == listed(out / name)
        expected |= {f"{name}/{file}" for file in listed(out / name)}
    assert listed(there) == listed(out)
    assert found(there) == expected  # no checkpoint-2, and nothing of the write test


def test_an_empty_disk_goes_on_from_the_newest_whole_checkpoint_there(
    mirrored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, out = tmp_path / "there", tmp_path / "out"
    shutil.copytree(mirrored / "there", there)
    (there / "checkpoint-6" / MANIFEST).unlink()  # its upload was cut, and with it the run
    for name in listed(there):
        (there / name).unlink()
    assert train(mirrored, out, there, *AUTO) == 0
    said = capsys.readouterr().err
    assert f"{there.as_uri()}/checkpoint-6 is passed over: no manifest.json, its upload was cut" in said
    assert f"{there.as_uri()}/checkpoint-4 is newer than what {out} holds: fetched" in said
    assert f"going on from {out / 'checkpoint-4'}" in said
    assert "mirror_dir: " not in said  # no difference to the run before that would be worth a line
    assert losses(out) == losses(mirrored / "out")
    assert (out / "model.safetensors").read_bytes() == (mirrored / "out" / "model.safetensors").read_bytes()
    assert listed(there / "checkpoint-6") == listed(out / "checkpoint-6")
    assert list(out.glob("*.partial")) == []
    assert train(mirrored, out, tmp_path / "other", *AUTO) == 0  # finished: only what is not there is copied
    assert listed(tmp_path / "other") == listed(out)


def test_a_copy_that_fails_ends_the_run_in_one_line_and_the_disk_keeps_the_checkpoint(
    mirrored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(LocalFileSystem, "put_file", full)
    there, out = tmp_path / "there", tmp_path / "out"
    assert train(mirrored, out, there) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"RunError: mirror_dir {there.as_uri()}: checkpoint-2 cannot be copied there: OSError: ")
    assert f"Disk quota exceeded; {out / 'checkpoint-2'} is whole: " in line
    assert line.endswith("--resume_from_checkpoint auto")
    assert faults(out / "checkpoint-2") == []


def test_a_new_run_refuses_a_mirror_with_an_earlier_one_and_empties_it_when_asked(
    mirrored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    shutil.copytree(mirrored / "there", there)
    (there / "mine.txt").write_text("kept")
    out = tmp_path / "out"
    assert train(mirrored, out, there) == 1
    assert "expected a new mirror_dir, found checkpoint-6; continue with" in capsys.readouterr().err
    assert train(mirrored, out, there, "--overwrite_output_dir", "--max_steps", "1", "--save_strategy", "no") == 0
    assert found(there) == {*listed(out), "mine.txt"}


def test_a_bucket_that_does_not_exist_is_one_line_before_training(
    mirrored: Path, tmp_path: Path, s3: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(mirrored, tmp_path / "out", "s3://nobody/run") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("ConfigError: mirror_dir s3://nobody/run: cannot be used: FileNotFoundError: ")
    assert not s3.exists("nobody")
    assert found(tmp_path / "out") == set()


class TestMirror:
    def test_s3(self, s3: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
        mirror, out = Mirror("s3://runs/a/"), tmp_path / "out"
        out.mkdir()
        mirror.check(out)
        assert mirror.holds() == ""
        for step in (2, 4, 6):
            mirror.add_checkpoint(make(out / f"checkpoint-{step}"), 2, None)
        assert {path.split("/")[2] for path in s3.find("runs/a")} == {"checkpoint-4", "checkpoint-6"}
        s3.rm_file(f"runs/a/checkpoint-6/{MANIFEST}")
        empty = tmp_path / "empty"
        empty.mkdir()
        assert [note.split(" is ")[1][:11] for note in mirror.fetch(empty)] == ["passed over", "newer than "]
        assert listed(empty / "checkpoint-4") == listed(out / "checkpoint-4")
        assert mirror.fetch(out) == ["s3://runs/a/checkpoint-6 is passed over: no manifest.json, its upload was cut"]
        mirror.empty()
        assert s3.find("runs/a") == []

    @pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt"])
    def test_fetch_checks_what_came_against_the_manifest(self, file: str, tmp_path: Path) -> None:
        there, out = tmp_path / "there", tmp_path / "out"
        for folder in (there, out):
            folder.mkdir()
        make(there / "checkpoint-2")
        make(there / "checkpoint-4")
        broken = there / "checkpoint-4" / file
        broken.unlink() if file == "optimizer.pt" else broken.write_bytes(b"cut")
        (note, fetched) = Mirror(there.as_uri()).fetch(out)
        assert f"checkpoint-4 is passed over: {file} " in note
        assert "checkpoint-2 is newer" in fetched
        assert [path.name for path in out.iterdir()] == ["checkpoint-2"]

    def test_fetch_brings_the_best_checkpoint_too(self, tmp_path: Path) -> None:
        there, out = tmp_path / "there", tmp_path / "out"
        there.mkdir()
        for step in (2, 4, 6):
            make(there / f"checkpoint-{step}", whole=False)
            state = {"global_step": step, "best_model_checkpoint": str(out / "checkpoint-2")}
            (there / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
            write_manifest(there / f"checkpoint-{step}", ranks=1)
        notes = Mirror(there.as_uri()).fetch(out)
        assert notes[1] == f"{there.as_uri()}/checkpoint-2 has the best model so far: fetched"
        assert {path.name for path in out.iterdir()} == {"checkpoint-2", "checkpoint-6"}

    def test_fetch_leaves_a_newer_disk_alone(self, tmp_path: Path) -> None:
        there, out = tmp_path / "there", tmp_path / "out"
        for folder in (there, out):
            folder.mkdir()
        make(there / "checkpoint-9")
        make(out / "checkpoint-2")
        assert Mirror(there.as_uri()).fetch(out) == []

    def test_add_checkpoint_keeps_the_best(self, tmp_path: Path) -> None:
        there = tmp_path / "there"
        for step in (2, 4, 6):
            best = str(tmp_path / "checkpoint-2")
            Mirror(there.as_uri()).add_checkpoint(make(tmp_path / f"checkpoint-{step}"), 1, best)
        assert {path.name for path in there.iterdir()} == {"checkpoint-2", "checkpoint-6"}

    def test_check_refuses_the_output_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="mirror_dir: expected another place than output_dir, found file://"):
            Mirror(tmp_path.as_uri()).check(tmp_path)

    def test_check_says_what_to_install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gcsfs", None)
        with pytest.raises(ConfigError, match=r"gs:// needs a library that is not installed: pip install gcsfs$"):
            Mirror("gs://bucket/run").check(tmp_path)

    def test_check_names_a_protocol_that_nobody_speaks(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match="mirror_dir foo://x: cannot be used: ValueError: Protocol not known: foo"
        ):
            Mirror("foo://x").check(tmp_path)

    def test_errors_hide_passwords(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            Mirror("foo://me:secret@x/y").check(tmp_path)
        assert "secret" not in str(caught.value)


def test_prepare_goes_on_from_a_checkpoint_of_the_folder(tmp_path: Path) -> None:
    there, out = tmp_path / "there", tmp_path / "out"
    for folder in (there, out):
        folder.mkdir()
        make(folder / "checkpoint-2")
    own = str(out / "checkpoint-2")
    assert prepare(arguments(out, there.as_uri(), resume_from_checkpoint=own)) == []
    with pytest.raises(ConfigError, match="expected a new mirror_dir, found checkpoint-2"):
        prepare(arguments(tmp_path / "new", there.as_uri(), resume_from_checkpoint=own))
    assert prepare(arguments(out, there.as_uri(), do_train=False)) == []


def test_add_model_names_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no manifest\.json, since an earlier version wrote it: not copied"):
        Mirror((tmp_path / "there").as_uri()).add_model(tmp_path)


@pytest.mark.parametrize("value", ["", "bucket/run", "s3:/bucket", "s3://"])
def test_run_arguments_refuse_what_is_no_url(value: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mirror_dir: expected a URL such as s3://BUCKET/RUN, found"):
        arguments(tmp_path, value)
