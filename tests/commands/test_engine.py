"""Work over shards by datatrove gives what one process gives. Slurm's commands are stood in for by scripts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from mllm.commands.regions.files import RegionsJob
from tests.commands.data.broken import break_photos, rec, write

ROOT = Path(__file__).parents[2]
LOCAL = ["--executor", "local", "--workers", "2", "--tasks", "3"]
BOX = "[0.100,0.300,0.500,0.700]"

needs_bash = pytest.mark.skipif(sys.platform != "linux", reason="the stand-ins of slurm are scripts of GNU tools")
needs_datatrove = pytest.mark.skipif(find_spec("datatrove") is None, reason="needs mllm[shards]")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    yield
    if find_spec("datatrove") is not None:
        from loguru import logger  # which keeps a file of the job open

        logger.remove()


def write_talks(folder: Path, count: int = 7, **changes: dict[str, Any]) -> Path:
    """Conversations in shikra's words about one image; `changes`: of lines, by `line3`."""
    Image.new("RGB", (40, 20)).save(folder / "a.png")
    path = folder / "in.jsonl"
    lines = []
    for number in range(count):
        said = [{"from": "human", "value": f"<image> {number}?"}, {"from": "gpt", "value": f"Hé {number}: {BOX}"}]
        lines.append({"image": "a.png", "conversations": said, **changes.get(f"line{number}", {})})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def convert(source: Path, out: Path, *flags: str) -> int:
    fixed = ["--from", "shikra", "--to", "qwen25_vl", "--image-folder", str(source.parent)]
    return main(["regions", "convert", *fixed, str(source), str(out), *flags])


@pytest.mark.parametrize("flags", [["--tasks", "4"], pytest.param(LOCAL, marks=needs_datatrove)])
def test_check_names_the_same_faults_as_one_process(
    flags: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    config, _ = break_photos(tmp_path / "data")
    words = ["data", "check", str(config), "--decode", "--stand-in"]
    assert main([*words, "--workers", "0"]) == 1
    alone = capfd.readouterr().out
    for _ in range(2):  # of parts that are made, and that are there
        assert main([*words, "--job-dir", str(tmp_path / "job"), *flags]) == 1
        said = capfd.readouterr()
        assert said.out == alone
        assert said.err == ""
    assert "[duplicate-line]" in alone
    assert "[missing-file]" in alone


@needs_datatrove
def test_dedup_finds_the_same_duplicates_as_one_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, dict(train=similar_talks(tmp_path, "train"), test=similar_talks(tmp_path, "test")))
    words = ["data", "dedup", str(config)]
    assert main([*words, "--workers", "0", "--out", str(tmp_path / "alone.json")]) == 1
    alone = capfd.readouterr().out
    flags = ["--out", str(tmp_path / "shards.json"), "--job-dir", str(tmp_path / "job"), *LOCAL]
    assert main([*words, *flags]) == 1
    said = capfd.readouterr()
    assert said.out == alone
    assert said.err == ""
    assert (tmp_path / "shards.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    report = json.loads((tmp_path / "alone.json").read_text())
    assert len(report["pictures"]) >= 4
    assert len(report["texts"]) >= 4
    assert len(report["unread"]) == 4


def similar_talks(folder: Path, name: str) -> dict[str, Any]:
    """Of ten talks some are alike, in both files; two images of each are not there."""
    lines: list[str] = []
    for number in range(10):
        image = folder / f"{name}{number}.png"
        if number not in (3, 8):
            seed = number % 4 * 50
            Image.linear_gradient("L").rotate(seed).resize((40 + number, 30)).convert("RGB").save(image)
        words = " ".join(f"w{(number % 4) * 100 + place}" for place in range(20))
        said = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": words}]
        lines.append(json.dumps({"image": image.name, "conversations": said}))
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return dict(type="Instruct", filename=str(path), image_folder=str(folder))


@pytest.mark.parametrize("flags", [["--tasks", "4"], pytest.param(LOCAL, marks=needs_datatrove)])
@pytest.mark.parametrize("name", ["out.jsonl", "out.json"])
def test_convert_writes_the_same_bytes_as_one_process(
    flags: list[str], name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    half = {"conversations": [{"from": "human", "value": "half \ud83d"}, {"from": "gpt", "value": "[0.1,0.2]"}]}
    source = write_talks(tmp_path, line2=half, line5=half)
    assert convert(source, tmp_path / name, "--unreadable", "keep") == 0
    alone, said = (tmp_path / name).read_bytes(), capfd.readouterr().out
    job = ["--unreadable", "keep", "--job-dir", str(tmp_path / "job"), *flags]
    assert convert(source, tmp_path / name, *job) == 0
    assert (tmp_path / name).read_bytes() == alone
    assert capfd.readouterr().out == said
    assert "2 texts were left unchanged" in said
    text = alone.decode()
    records = json.loads(text) if name == "out.json" else [json.loads(line) for line in text.splitlines()]
    assert len(records) == 7
    assert records[2]["conversations"][0]["value"] == "half \ud83d"


@needs_datatrove
def test_convert_ends_with_the_first_bad_line_as_one_process_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write_talks(tmp_path, line4={"image": "gone.png"}, line6={"conversations": 3})
    assert convert(source, tmp_path / "out.jsonl") == 1
    alone = capfd.readouterr().err
    assert f"{source}:5" in alone
    job = ["--job-dir", str(tmp_path / "job"), *LOCAL]
    assert convert(source, tmp_path / "out.jsonl", *job) == 1
    assert capfd.readouterr().err == alone
    assert not (tmp_path / "out.jsonl").exists()
    shutil.copy(tmp_path / "a.png", tmp_path / "gone.png")  # the cause is gone: that shard is made anew
    assert convert(source, tmp_path / "out.jsonl", *job) == 1
    assert f"{source}:7" in capfd.readouterr().err


@needs_datatrove
def test_a_killed_task_is_an_error_and_made_by_the_next_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_talks(tmp_path)
    assert convert(source, tmp_path / "alone.jsonl") == 0
    capfd.readouterr()
    made = tmp_path / "made"
    original = RegionsJob._line

    def line(job: RegionsJob, number: int) -> Any:
        with made.open("a") as file:
            file.write(f"{number}\n")
        if number == 3 and made.read_text().split().count("3") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(job, number)

    monkeypatch.setattr(RegionsJob, "_line", line)
    job = ["--job-dir", str(tmp_path / "job"), "--executor", "local", "--workers", "1", "--tasks", "3"]
    assert convert(source, tmp_path / "out.jsonl", *job) == 1
    said = capfd.readouterr().err
    assert said.startswith("RunError: a worker process ended with status -9")
    assert len(said.splitlines()) == 1
    assert convert(source, tmp_path / "out.jsonl", *job) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert made.read_text().split() == ["0", "1", "2", "3", "2", "3", "4", "5", "6"]  # the first shard was there


SBATCH = """#!/bin/bash
# runs each task of the array at once, where there is a file `run`
echo "$@" >> {folder}/sbatch.log
script="${{@: -1}}"
cp "$script" {folder}/script
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $([ -e {folder}/run ] && grep -q launch_pickled_pipeline "$script" && seq 0 "$last"); do
    SLURM_NODELIST=here SLURM_ARRAY_TASK_ID=$task bash "$script" >> {folder}/tasks.log 2>&1
done
echo "Submitted batch job 17"
"""
SRUN = """#!/bin/bash
[ "$1 $2 $3" = "-l -n 1" ] || exit 1
exec "${@:4}"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which slurm's commands say what they were asked for; `queue` is what squeue prints."""
    folder = tmp_path / "slurm"
    (folder / "bin").mkdir(parents=True)
    commands = {
        "sbatch": SBATCH.format(folder=folder),
        "srun": SRUN,
        "squeue": f'#!/bin/bash\necho "$@" >> {folder}/squeue.log\ncat {folder}/queue\n',
        "scontrol": '#!/bin/bash\n[ "$1 $2" = "show hostnames" ] && echo "$3"\n',
    }
    for name, text in commands.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    (folder / "queue").write_text("")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    return folder


def submissions(slurm: Path) -> list[str]:
    """What sbatch was given for each array."""
    asked = (slurm / "sbatch.log").read_text().splitlines() if (slurm / "sbatch.log").exists() else []
    return [line.rpartition(" ")[0] for line in asked if "RUN_OFFSET" in line]


@needs_datatrove
@needs_bash
def test_slurm_is_given_an_array_for_each_stage_once(
    tmp_path: Path, slurm: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, dict(train=rec(ROOT / "examples" / "coco_photos" / "train.jsonl")))
    options = ["time=0:10:00", "partition=cpu", "mem_per_cpu_gb=3", "sbatch_args={'account': 'x'}"]
    flags = ["--tasks", "2", "--executor", "slurm", "--executor-options", *options]
    words = ["data", "dedup", str(config), "--job-dir", str(tmp_path / "job"), *flags]
    for queue in ("", "18_0\n18_1\n"):
        (slurm / "queue").write_text(queue)
        assert main(words) == 75
        said = capfd.readouterr()
        assert said.out.startswith("slurm still has to make 4 of 4 parts (see squeue)")
        assert said.err == ""
        # of the second run none: they are in the queue
        assert submissions(slurm) == ["--export=ALL,RUN_OFFSET=0", "--export=ALL,RUN_OFFSET=0 --dependency=afterok:17"]
    script = (tmp_path / "job" / "engine" / "images" / "launch_script.slurm").read_text().splitlines()
    for line in ("array=0-1", "time=0:10:00", "partition=cpu", "mem-per-cpu=3G", "account=x", "cpus-per-task=1"):
        assert f"#SBATCH --{line}" in script
    assert "#SBATCH --kill-on-invalid-dep=yes" in script
    (name,) = {line.split("=")[1] for line in script if "job-name" in line}
    assert f"--name={name}" in (slurm / "squeue.log").read_text()


@needs_datatrove
@needs_bash
@pytest.mark.slow
def test_parts_that_slurm_made_are_put_together(tmp_path: Path, slurm: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = write_talks(tmp_path, 3)
    assert convert(source, tmp_path / "alone.jsonl") == 0
    flags = ["--executor", "slurm", "--tasks", "2", "--executor-options", "time=0:10:00", "partition=cpu"]
    job = ["--job-dir", str(tmp_path / "job"), *flags]
    (slurm / "run").touch()
    capfd.readouterr()
    assert convert(source, tmp_path / "out.jsonl", *job) == 0, (slurm / "tasks.log").read_text()
    assert capfd.readouterr().err == ""
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "job" / "convert" / "00001")  # as after a failure: only that one is submitted again
    assert convert(source, tmp_path / "out.jsonl", *job) == 0, (slurm / "tasks.log").read_text()
    assert json.loads((tmp_path / "job" / "engine" / "convert" / "ranks_to_run.json").read_text()) == [1]
    assert len(submissions(slurm)) == 2


@needs_datatrove
@pytest.mark.slow
def test_ray_makes_the_parts_or_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    source = write_talks(tmp_path)
    assert convert(source, tmp_path / "alone.jsonl") == 0
    flags = ["--executor", "ray", "--tasks", "2", "--executor-options", "mem_per_cpu_gb=0.2"]
    job = ["--job-dir", str(tmp_path / "job"), *flags]
    try:
        assert convert(source, tmp_path / "out.jsonl", *job) == 0
        assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
        shutil.rmtree(tmp_path / "job" / "convert" / "00001")
        (tmp_path / "job" / "convert" / "00001").write_text("in the way")
        capfd.readouterr()
        assert convert(source, tmp_path / "out.jsonl", *job) == 1
    finally:
        ray.shutdown()
    said = capfd.readouterr().err
    assert f"RunError: {tmp_path / 'job' / 'convert'}: expected 2 parts, found 1" in said
    assert "Traceback" not in said
    assert "Not a directory" in (tmp_path / "job/engine/convert/logs/task_00001.log").read_text()


SLURM = ["--executor", "slurm", "--executor-options", "time=1:00:00", "partition=cpu"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "2"], "ConfigError: --job-dir: expected a folder that all machines share"),
        (["--executor", "local"], "ConfigError: --job-dir: expected a folder that all machines share"),
        (
            ["--job-dir", "JOB", "--executor-options", "a=1"],
            "ConfigError: --executor: expected an executor for --executor-options, found nothing",
        ),
        pytest.param(
            ["--job-dir", "JOB", *LOCAL, "--executor-options", "workers=1"],
            "ConfigError: --executor-options: expected an option of executor local, found 'workers'; it takes none",
            marks=needs_datatrove,
        ),
        (["--job-dir", "JOB", *LOCAL, "--executor-options", "workers"], "expected KEY=VALUE, found 'workers'"),
        pytest.param(
            ["--job-dir", "JOB", "--executor", "slurm"],
            "ConfigError: --executor-options: expected time=... partition=... for executor slurm, found",
            marks=needs_datatrove,
        ),
        pytest.param(
            ["--job-dir", "JOB", *SLURM, "partitions=cpu"],
            "expected an option of executor slurm, found 'partitions'; did you mean 'partition'",
            marks=needs_datatrove,
        ),
        pytest.param(
            ["--job-dir", "JOB", *SLURM, "logging_dir=x"],
            "expected an option of executor slurm, found 'logging_dir'",
            marks=needs_datatrove,
        ),
        pytest.param(
            ["--job-dir", "JOB", *SLURM, "cpus_per_task=many"],
            "--executor-options: cpus_per_task: expected int, found str 'many'",
            marks=needs_datatrove,
        ),
        pytest.param(
            ["--job-dir", "JOB", *SLURM],
            "RunError: --executor slurm: squeue: no such command on this machine",
            marks=[needs_datatrove, pytest.mark.skipif(shutil.which("squeue") is not None, reason="slurm is here")],
        ),
    ],
)
def test_wrong_flags_are_one_line(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_talks(tmp_path)
    words = [str(tmp_path / "job") if flag == "JOB" else flag for flag in flags]
    assert convert(source, tmp_path / "out.jsonl", *words) == 1
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("tasks", ["0", "-1", "two", "100000", "9" * 5000])
def test_tasks_are_a_number_in_range(tasks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", f"--tasks={tasks}") == 2
    said = capsys.readouterr().err
    assert "'--tasks'" in said
    assert len(said.splitlines()) == 1
    assert len(said) < 600


def test_an_engine_that_is_not_installed_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "mllm.commands.engine", raising=False)
    monkeypatch.setitem(sys.modules, "datatrove", None)
    monkeypatch.setitem(sys.modules, "datatrove.executor.base", None)
    assert convert(write_talks(tmp_path), tmp_path / "out.jsonl", "--job-dir", str(tmp_path / "job"), *LOCAL) == 1
    said = capsys.readouterr().err
    assert said.startswith("ConfigError: --executor: needs pip install 'mllm[shards]'")
    assert len(said.splitlines()) == 1
