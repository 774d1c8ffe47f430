"""Requests of clients that were written for Instruct-Flamingo's server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mllm.serve.api.limits import Limits
from mllm.serve.chat_model import ChatModel
from tests.serve.api.running import ask, painted, running, scripted, state_of


def body(*paths: str, prompt: str = "What is it?", **args: Any) -> dict[str, Any]:
    return {"content_lst": {"prompt": prompt, "imgpaths": list(paths), "args": args}, "typ": "vqa"}


def test_its_request_is_answered_in_its_shape(loaded: ChatModel, tmp_path: Path) -> None:
    painted().save(tmp_path / "a.png")
    model, script = scripted(loaded)
    sampled = {"do_sample": True, "temperature": 0.5, "top_k": 20, "top_p": 0.9, "length_penalty": 1.0}
    with running(state_of({"tiny": model}, image_root=tmp_path)) as url:
        found = ask(f"{url}/clever_flamingo", body("a.png", max_new_token=8, num_beams=1, **sampled))
        assert found[:2] == (200, {"result": {"response": ["It is here"]}})
        ask(f"{url}/clever_flamingo", body(str(tmp_path / "a.png"), prompt="<image> what?"))
    first, second = script.samplings
    assert (first.max_new_tokens, first.temperature, first.top_k, first.top_p) == (8, 0.5, 20, 0.9)
    assert second.temperature == 0
    assert [len(sample.images) for sample in script.samples] == [1, 1]


def test_no_path_leaves_the_root(loaded: ChatModel, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    painted().save(tmp_path / "secret.png")
    painted().save(tmp_path / "root2.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "loop").symlink_to(root / "loop")
    (root / "text.png").write_text("hello")
    model, script = scripted(loaded)
    paths = ("../secret.png", str(tmp_path / "secret.png"), "link.png", "loop", "../root2.png", "a\0b", ".", "none.png")
    with running(state_of({"tiny": model}, image_root=root)) as url:
        for path in paths:
            status, found, _ = ask(f"{url}/clever_flamingo", body(path))
            assert (status, found["error"]["param"]) == (400, "imgpaths[0]"), path
            assert str(tmp_path) not in found["error"]["message"]
        status, found, _ = ask(f"{url}/clever_flamingo", body("text.png"))
        assert (status, found["error"]["code"]) == (400, "invalid_image")
        assert str(tmp_path) not in found["error"]["message"]
    with running(state_of({"tiny": model})) as url:
        assert ask(f"{url}/clever_flamingo", body("a.png"))[0] == 400
    assert script.samples == []


@pytest.mark.parametrize("args", [{"num_beams": 3}, {"no_repeat_ngram_size": 3}, {"colour": 1}])
def test_arguments_that_are_not_honoured_are_refused(loaded: ChatModel, args: dict[str, Any]) -> None:
    model, _ = scripted(loaded)
    with running(state_of({"tiny": model})) as url:
        status, found, _ = ask(f"{url}/clever_flamingo", body(**args))
    assert status == 400
    assert next(iter(args)) in found["error"]["param"]


def test_its_prompts_are_bounded_too(loaded: ChatModel) -> None:
    model, script = scripted(loaded)
    with running(state_of({"tiny": model}, limits=Limits(max_prompt_tokens=20))) as url:
        status, found, _ = ask(f"{url}/clever_flamingo", body(prompt="word " * 100))
    assert (status, found["error"]["code"]) == (400, "context_length_exceeded")
    assert script.samples == []
