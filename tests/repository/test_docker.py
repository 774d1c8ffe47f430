"""docker/: linted, and its commands are started as processes, since tests have no container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"
MODEL = ROOT / "tests" / "assets" / "saved_before_rooms"
BIN = Path(sys.executable).parent


def found(name: str) -> str:
    """A tool beside this Python, or on PATH."""
    tool = shutil.which(name, path=os.pathsep.join((str(BIN), os.environ["PATH"])))
    if tool is None:
        pytest.skip(f"{name} is not installed")
    return tool


def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run([found("hadolint"), str(ROOT / "docker" / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_compose_file_fits_the_schema(name: str) -> None:
    command = [found("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker" / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (.*)", text, re.MULTILINE) for word in line.split()[:-1]]
    kept = (ROOT / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert len(copied) > 5
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in kept, name
    version = re.search(r"ARG TORCH_VERSION=(\S+)", text)
    assert version is not None
    assert f"torch=={version[1]}" in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def test_only_the_worker_reads_the_model_and_nothing_listens_beyond_this_machine() -> None:
    found = services()
    assert sorted(found) == ["api", "web", "worker"]
    assert all(port.startswith("127.0.0.1:") for each in found.values() for port in each.get("ports", []))
    assert "ports" not in found["worker"]
    assert [name for name, each in found.items() if any("MODEL" in v for v in each.get("volumes", []))] == ["worker"]


def started(service: str, ports: dict[str, int], folder: Path) -> subprocess.Popen[bytes]:
    """The command of a service, with addresses and folders of this machine in place of a container's."""
    command = [str(word) for word in services()[service]["command"]]
    places = {
        "0.0.0.0": "127.0.0.1",
        "model=/model": f"model={MODEL}",
        "http://worker:8000/v1": f"http://127.0.0.1:{ports['worker']}/v1",
        "/reports/bad_answers.jsonl": str(folder / "bad_answers.jsonl"),
    }
    words = [places.get(word, word) for word in command]
    return subprocess.Popen(
        [sys.executable, "-m", "mllm.cli", *words, "--port", str(ports[service])],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def three(tmp_path: Path) -> Iterator[dict[str, int]]:
    import socket

    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for each in (one, two, three):
            each.bind(("127.0.0.1", 0))
        ports = dict(zip(services(), (each.getsockname()[1] for each in (one, two, three)), strict=True))
    processes = [started(name, ports, tmp_path) for name in ports]
    try:
        yield ports
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in processes] == [128 + signal.SIGTERM] * 3
    finally:
        for process in processes:
            process.kill()


def page(port: int, path: str, body: Any = None, *, seconds: float = 60) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as response:
        return response.read().decode()


@pytest.mark.slow
def test_the_three_services_answer_together(three: dict[str, int]) -> None:
    """All are started at once: those in front wait for the worker."""
    end = time.monotonic() + 300
    for port in three.values():
        while True:
            try:
                page(port, "/ready", seconds=5)
                break
            except OSError:  # not there yet, or 503
                assert time.monotonic() < end
                time.sleep(0.3)
    body = {"model": "model", "messages": [{"role": "user", "content": "Where is it?"}], "max_tokens": 8}
    said = [json.loads(page(port, "/v1/chat/completions", body)) for port in three.values()]
    assert len({answer["choices"][0]["message"]["content"] for answer in said}) == 1
    assert "<html" in page(three["web"], "/")
