from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mllm.cli import main
from mllm.conversation.convention import make_convention
from mllm.pipeline.remote import read_answer_in, to_openai_messages
from mllm.records import read_item
from mllm.registry import CODECS

pytest.importorskip("openai")

SIZE = (300, 200)
SLOW = 2.0
BOXES = [(30, 20, 90, 80), (150, 40, 280, 160), (10, 100, 60, 190), (200, 10, 290, 60)]


class Server(ThreadingHTTPServer):
    """Finds the red paint in the image that it is sent, and answers with its box in the codec's words.

    `failures`: what becomes of the first requests about an item: a status, "cut" for half an answer, or "slow" for none
    in time. `wait`: the header that asks for a pause.
    """

    daemon_threads = True

    def __init__(self, codec: str, failures: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.codec: Any = CODECS.make(codec)
        self.failures = failures
        self.wait: tuple[str, str] = ("retry-after-ms", "1")
        self.times: dict[str, list[float]] = {}
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Answers(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = body["messages"][-1]["content"]
        words = "".join(part["text"] for part in parts if part["type"] == "text")
        with self.server.lock:
            self.server.bodies.append(body)
            number = self.server.asked[words]
            self.server.asked[words] += 1
            self.server.times.setdefault(words, []).append(time.monotonic())
        failure = self.server.failures[number] if number < len(self.server.failures) else None
        if isinstance(failure, int):
            self.reply(json.dumps({"error": {"message": "no"}}).encode(), failure)
            return
        if failure == "slow":
            time.sleep(SLOW)
            self.close_connection = True
            return
        (url,) = (part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        image = Image.open(BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
        pixels = np.asarray(image).astype(int)
        rows, columns = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1] < 60))
        width, height = image.size
        box = (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
        text = self.server.codec.write_boxes([box], image.size)
        answer = {
            **{"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]},
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
        content = json.dumps(answer).encode()
        if failure == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        with self.server.lock:
            self.server.answered[words] += 1
        self.reply(content, 200)

    def reply(self, content: bytes, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header(*self.server.wait)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def serve(codec: str, failures: list[Any]) -> Iterator[Server]:
    server = Server(codec, failures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(tmp_path: Path) -> str:
    lines: list[dict[str, Any]] = []
    for number, box in enumerate(BOXES):
        image = Image.new("RGB", SIZE, (240, 240, 240))
        image.paste((255, 0, 0), box)
        image.save(tmp_path / f"{number}.png")
        lines.append({"img_path": f"{number}.png", "expression": f"the red paint {number}", "bbox": box})
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "questions.json").write_text('["Where is <expr> in <image>?"]')
    dataset = {
        **{"type": "REC", "filename": str(tmp_path / "lines.jsonl"), "image_folder": str(tmp_path)},
        **{"questions": str(tmp_path / "questions.json"), "answer": "<boxes>"},
    }
    path = tmp_path / "config.py"
    path.write_text(
        f"data_args = dict(test={dataset!r}, compute_metric='REC', gen_kwargs=dict(max_new_tokens=32))\n"
        "training_args = dict(bf16=True)\n"  # as the suites say, for a GPU that a client of a server has not
    )
    return str(path)


def predict(config: str, server: Server, out: Path, *options: str) -> int:
    arguments = ["--api", server.url, "--model", "some-model", "--output_dir", str(out), *options]
    return main(["predict", config, *arguments])


@pytest.mark.parametrize("codec", ["qwen3_vl", "qwen25_vl", "shikra", "paligemma", "internvl"])
def test_answers_of_a_server_are_read_in_the_frame_that_was_sent(codec: str, config: str, tmp_path: Path) -> None:
    for server in serve(codec, []):
        assert predict(config, server, tmp_path / "out", "--codec", codec) == 0
        body = server.bodies[0]
    results = json.loads((tmp_path / "out" / "test_results.json").read_text())
    assert results["test_acc@0.75"] == 1.0
    assert results["test_mean_iou"] > 0.93
    assert results["about"]["usage"] == {"prompt_tokens": 28, "completion_tokens": 12, "requests": 4}
    assert results["about"]["model"]["name"] == "some-model"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("some-model", 32, 0)
    assert "<html" in (tmp_path / "out" / "test_report.html").read_text()


def test_every_item_is_answered_once_through_failures(config: str, tmp_path: Path) -> None:
    for server in serve("qwen3_vl", [429, 500, "cut"]):
        assert predict(config, server, tmp_path / "out", "--codec", "qwen3_vl", "--concurrency", "4") == 0
        assert set(server.answered.values()) == {1}
        assert set(server.asked.values()) == {4}
    lines = [json.loads(line) for line in (tmp_path / "out" / "test_extra_prediction.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    assert all(line["iou"] > 0.93 for line in lines)


def test_a_slow_server_is_asked_again_and_each_item_answered_once(config: str, tmp_path: Path) -> None:
    for server in serve("qwen3_vl", ["slow"]):
        options = ["--codec", "qwen3_vl", "--concurrency", "4", "--timeout", "0.5"]
        assert predict(config, server, tmp_path / "out", *options) == 0
        assert set(server.asked.values()) == {2}
        assert set(server.answered.values()) == {1}
        assert all(second - first < SLOW + 1 for first, second in server.times.values())
    lines = [json.loads(line) for line in (tmp_path / "out" / "test_extra_prediction.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    usage = json.loads((tmp_path / "out" / "test_results.json").read_text())["about"]["usage"]
    assert usage == {"prompt_tokens": 28, "completion_tokens": 12, "requests": 4}


def test_a_server_that_stays_slow_is_named(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for server in serve("qwen3_vl", ["slow"] * 9):
        options = ["--codec", "qwen3_vl", "--concurrency", "4", "--timeout", "0.2", "--retries", "0"]
        assert predict(config, server, tmp_path / "out", *options) == 1
    error = capsys.readouterr().err
    assert "APITimeoutError" in error
    assert "lines.jsonl:1" in error
    assert "the answers so far are in" in error


def test_a_pause_that_the_server_asks_for_in_seconds_is_kept(config: str, tmp_path: Path) -> None:
    pauses: list[float] = []
    for server in serve("qwen3_vl", [429]):
        server.wait = ("Retry-After", "1")
        assert predict(config, server, tmp_path / "out", "--codec", "qwen3_vl", "--concurrency", "4") == 0
        assert set(server.answered.values()) == {1}
        pauses = [second - first for first, second in server.times.values()]
    assert len(pauses) == len(BOXES)
    assert all(1.0 <= pause < 5 for pause in pauses)


def test_a_server_that_gives_up_leaves_its_answers_for_resume(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for server in serve("qwen3_vl", []):
        server.failures = [400]
        options = ["--codec", "qwen3_vl", "--concurrency", "1"]
        assert predict(config, server, out, *options) == 1
        error = capsys.readouterr().err
        assert "lines.jsonl:1" in error
        assert "BadRequestError" in error
        # the next evaluation finds the first two answers of one that was killed
        server.failures = []
        assert predict(config, server, out, *options) == 0
        whole = (out / "test_extra_prediction.jsonl").read_bytes()
        about = json.loads((out / "test_results.json").read_text())["about"]
        (out / "test_extra_prediction.jsonl.partial").write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
        (out / "test_about.json.partial").write_text(json.dumps(about))
        before = sum(server.answered.values())
        assert predict(config, server, out, *options, "--resume", "True") == 0
        assert sum(server.answered.values()) == before + 2
        assert (out / "test_extra_prediction.jsonl").read_bytes() == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "model_args.codec: expected the codec in which the model writes boxes (or set --codec), found nothing"),
        (["--codec", "qwen4"], "qwen4"),
        (
            ["--codec", "shikra", "--cfg-options", "data_args.gen_kwargs.num_beams=3"],
            "data_args.gen_kwargs.num_beams: expected",
        ),
        (
            ["--codec", "shikra", "--cfg-options", "data_args.ranking=dict(candidates=['a', 'b'])"],
            "data_args.ranking: expected nothing with --api",
        ),
    ],
)
def test_api_refuses_what_it_cannot_send(
    options: list[str], message: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for server in serve("shikra", []):
        assert predict(config, server, tmp_path / "out", *options) == 1
    assert message in capsys.readouterr().err


def test_messages_call_several_images_by_number_and_answers_are_read_on_them() -> None:
    record = {
        "images": [Image.new("RGB", SIZE), Image.new("RGB", SIZE)],
        "target": {"boxes": [[10, 20, 30, 40], [20, 20, 50, 60]], "boxes_image": [1, 0]},
        "conversations": [
            {"from": "human", "value": "<image><image>Like <boxes>?", "boxes_seq": [[0]]},
            {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0, 1]]},
        ],
    }
    item = read_item(record, key="a:1")
    convention = make_convention("qwen3_vl", image_numbers=True)
    (message,) = to_openai_messages(item, convention)
    kinds = [part.get("text", "image") for part in message["content"]]
    assert kinds[:4] == ["Picture 1: ", "image", "Picture 2: ", "image"]
    asked = kinds[4].removeprefix("Like ").removesuffix("?")
    read = read_answer_in(asked, item, 0, convention)
    assert [box.image for box in read.boxes] == [1]
