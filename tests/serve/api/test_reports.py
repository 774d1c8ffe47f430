"""Bad answers are kept as items that can be trained on."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from mllm.registry import DATASETS
from mllm.serve.api.limits import Limits
from mllm.serve.chat_model import ChatModel
from tests.serve.api.running import ask, asked, painted, running, scripted, state_of


def send(loaded: ChatModel, path: Path | None, *bodies: dict[str, Any], **changes: Any) -> list[Any]:
    model, _ = scripted(loaded)
    with running(state_of({"tiny": model}, reports=path, **changes)) as url:
        return [ask(f"{url}/v1/reports", body) for body in bodies]


def body(**fields: Any) -> dict[str, Any]:
    question = asked("What is at <boxes>?", painted(), regions=[{"boxes": [[10, 10, 30, 20]]}])
    return {"request": question, "answer": "a cat", **fields}


def test_a_report_is_an_item_with_the_right_answer(loaded: ChatModel, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    right = {"text": "the red one <boxes>", "regions": [{"boxes": [[1, 2, 3, 4]]}]}
    found = send(loaded, path, body(right=right, comment="no cat"), body())
    assert [status for status, *_ in found] == [200, 200]
    config = {"type": "Instruct", "filename": str(path), "image_folder": str(tmp_path / "bad_images")}
    (item,) = DATASETS.make(config)
    second = json.loads((tmp_path / "bad_unanswered.jsonl").read_text())
    assert [box.xyxy for box in item.truth.boxes] == [(1, 2, 3, 4)]
    assert item.images[0].open().getpixel((15, 15)) == (250, 20, 20)
    assert item.group == {"bad_answer": "a cat", "comment": "no cat"}
    assert second["conversations"][-1]["from"] == "human"
    assert len(list((tmp_path / "bad_images").iterdir())) == 1


def test_what_is_not_kept(loaded: ChatModel, tmp_path: Path) -> None:
    assert send(loaded, None, body())[0][0] == 403
    path = tmp_path / "bad.jsonl"
    wrong = body(right={"text": "here <boxes>"}), body(right={"text": " "}), {"answer": "x"}
    outside = {"text": "here <boxes>", "regions": [{"boxes": [[400, 2, 500, 4]]}]}
    found = send(loaded, path, *wrong, body(right=outside))
    assert [status for status, *_ in found] == [400] * 4
    assert found[-1][1]["error"]["param"] == "right.regions[0].boxes[0]"
    assert not path.exists()
    full = send(loaded, path, body(), body(), limits=Limits(reports_mb=1e-5))
    assert [status for status, *_ in full] == [200, 507]


def test_reports_of_several_workers_at_once_are_whole_lines(loaded: ChatModel, tmp_path: Path) -> None:
    """Each worker has a lock of its own, so two servers stand for them."""
    path, model = tmp_path / "bad.jsonl", scripted(loaded)[0]
    question = asked("Which?", Image.effect_noise((500, 400), 50).convert("RGB"))
    sent = {"request": question, "answer": "a" * 9000, "right": {"text": "b" * 9000}, "comment": "c" * 9000}
    with (
        running(state_of({"tiny": model}, reports=path)) as one,
        running(state_of({"tiny": model}, reports=path)) as two,
        ThreadPoolExecutor(20) as pool,
    ):
        found = list(pool.map(lambda url: ask(f"{url}/v1/reports", sent), [one, two] * 10))
    assert sorted(answer["number"] for _, answer, _ in found) == list(range(1, 21))
    assert [json.loads(line)["group"]["comment"][:1] for line in path.read_text().splitlines()] == ["c"] * 20
    assert [file.suffix for file in (tmp_path / "bad_images").iterdir()] == [".png"]


def test_a_report_keeps_the_image_that_the_question_is_about(loaded: ChatModel, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    question = asked("Which?", painted(), painted((40, 60)), answer_image=1)
    right = {"text": "<boxes>", "regions": [{"boxes": [[1, 2, 3, 4]], "image": 1}]}
    wrong = {"text": "<boxes>", "regions": [{"boxes": [[1, 2, 3, 4]], "image": 0}]}
    found = send(loaded, path, *({"request": question, "answer": "a cat", "right": each} for each in (right, wrong)))
    assert [status for status, *_ in found] == [200, 400]
    (item,) = DATASETS.make({"type": "Instruct", "filename": str(path), "image_folder": str(tmp_path / "bad_images")})
    assert item.answer_image == 1
    loaded.processor.check_truth(item)
