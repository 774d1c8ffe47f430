"""Who may ask the server, and what it says of itself."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from mllm.serve.api.limits import Limits
from mllm.serve.chat_model import ChatModel
from tests.serve.api.running import ask, asked, running, scripted, state_of, until


def test_without_the_key_only_health_and_readiness_are_answered(loaded: ChatModel) -> None:
    model, script = scripted(loaded)
    with running(state_of({"tiny": model}, key="sesame")) as url:
        assert ask(f"{url}/ready")[0] == 200
        for path in ("/v1/models", "/v1/models/tiny", "/metrics"):
            assert ask(f"{url}{path}")[0] == 401
        for sent in ("", "Bearer", "Bearer ses", "Bearer sesame2", "Basic sesame", "Bearer s\xe9same"):
            status, body, headers = ask(f"{url}/v1/chat/completions", asked("?"), authorization=sent)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
            assert headers["www-authenticate"] == "Bearer"
        assert script.samples == []
        assert ask(f"{url}/v1/chat/completions", asked("?"), authorization="Bearer sesame")[0] == 200


def test_a_key_may_have_any_letters(loaded: ChatModel) -> None:
    model, _ = scripted(loaded)
    with running(state_of({"tiny": model}, key="schlüssel-ключ")) as url:
        sent = "schlüssel-ключ".encode().decode("latin-1")  # as the client's library writes it: in UTF-8
        assert ask(f"{url}/v1/models", authorization=f"Bearer {sent}")[0] == 200
        assert ask(f"{url}/v1/models", authorization="Bearer schlüssel")[0] == 401


def test_the_models_and_what_is_known_of_them(loaded: ChatModel) -> None:
    model, _ = scripted(loaded)
    with running(state_of({"tiny": model})) as url:
        (found,) = ask(f"{url}/v1/models")[1]["data"]
        assert (found["id"], found["object"]) == ("tiny", "model")
        assert (found["mllm"]["codec"], found["mllm"]["type"]) == ("bins", "llava")
        assert ask(f"{url}/v1/models/tiny")[1] == found
        assert ask(f"{url}/v1/models/other")[0] == 404


def test_unknown_pages_and_methods_have_the_shape_of_errors(loaded: ChatModel) -> None:
    model, _ = scripted(loaded)
    with running(state_of({"tiny": model})) as url:
        for path, status in (("/nothing", 404), ("/v1/chat/completions", 405), ("/docs", 404)):
            found, body, _ = ask(f"{url}{path}")
            assert (found, list(body)) == (status, ["error"])


@pytest.mark.parametrize(("state", "status"), [("loading", 503), ("ready", 200), ("stopping", 503)])
def test_a_server_that_is_not_ready_says_so(loaded: ChatModel, state: str, status: int) -> None:
    model, _ = scripted(loaded)
    with running(state_of({"tiny": model}, state=state)) as url:
        assert ask(f"{url}/ready")[:2] == (status, {"status": state})
        assert ask(f"{url}/v1/models")[0] == status
        found, body, headers = ask(f"{url}/v1/chat/completions", asked("?"))
        assert found == status
        if status == 503:
            assert body["error"]["code"] == state
            assert int(headers["retry-after"]) > 0


def test_a_request_that_is_too_large(loaded: ChatModel) -> None:
    model, script = scripted(loaded)
    with running(state_of({"tiny": model}, limits=Limits(max_body_mb=2))) as url:
        for _ in range(3):  # the client still sends when it is refused
            status, body, _ = ask(f"{url}/v1/chat/completions", asked("?" * 6_000_000))
            assert (status, list(body)) == (413, ["error"])
    with running(state_of({"tiny": model}, limits=Limits(max_body_mb=0.01))) as url:
        sock = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10)
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        sock.sendall(f"{head}transfer-encoding: chunked\r\n\r\n4000\r\n{'x' * 0x4000}\r\n".encode())
        assert b" 413 " in sock.recv(1000)
        assert script.samples == []


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("messages", [{"role": "user", "content": "a"}] * 1001, 400),
        ("regions", [{"points": [[1, 1]]}] * 1001, 400),
        ("image_sizes", [None] * 1001, 400),
        ("x", [0] * 200_001, 413),
    ],
)
def test_lists_without_end_are_not_checked_entry_by_entry(
    loaded: ChatModel, name: str, value: list[Any], status: int
) -> None:
    model, script = scripted(loaded)
    with running(state_of({"tiny": model})) as url:
        found, body, _ = ask(f"{url}/v1/chat/completions", {**asked("?"), name: value})
    assert (found, list(body)) == (status, ["error"])
    assert "at most" in body["error"]["message"]
    assert script.samples == []


def test_a_body_that_does_not_come(loaded: ChatModel) -> None:
    model, _ = scripted(loaded)
    state = state_of({"tiny": model}, limits=Limits(timeout_s=0.3), reports=Path("unused"))
    with running(state) as url:
        for path in ("/v1/chat/completions", "/v1/reports"):
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as sock:
                head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                sock.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
                assert b" 504 " in sock.recv(1000)
        assert state.active == 0


def test_a_client_that_hangs_up_while_it_sends_is_no_failure(
    loaded: ChatModel, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = scripted(loaded)
    model.numbers = dict  # type: ignore[method-assign]
    state = state_of({"tiny": model})
    gone = 'mllm_requests_total{path="/v1/chat/completions",status="499"} 1.0'
    with running(state) as url:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as sock:
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            sock.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
            until(lambda: state.active == 1)
        until(lambda: gone in ask(f"{url}/metrics")[1])
    assert state.active == 0
    assert caplog.records == []


def test_a_prompt_beyond_what_the_model_was_made_for(loaded: ChatModel) -> None:
    model, script = scripted(loaded)
    model.context = 20
    with running(state_of({"tiny": model})) as url:
        status, body, _ = ask(f"{url}/v1/chat/completions", asked("word " * 100))
        assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
        assert "at most 20 tokens" in body["error"]["message"]
    assert script.samples == []


def test_a_prompt_that_is_too_long(loaded: ChatModel) -> None:
    model, script = scripted(loaded)
    with running(state_of({"tiny": model}, limits=Limits(max_prompt_tokens=20))) as url:
        status, body, _ = ask(f"{url}/v1/chat/completions", asked("word " * 100))
        assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
        assert script.samples == []


def test_a_foreign_name_does_not_lead_a_browser_here(loaded: ChatModel) -> None:
    """DNS rebinding: a page elsewhere whose name is made to mean 127.0.0.1."""
    model, _ = scripted(loaded)
    with running(state_of({"tiny": model}), hosts=("localhost", "127.0.0.1", "::1", "*.lab")) as url:
        for known in ("localhost", "127.0.0.1:80", "LOCALHOST:1", "[::1]:8000", "a.lab"):
            assert ask(f"{url}/v1/models", host=known)[0] == 200, known
        for foreign in ("evil.example", "localhost.evil.example", "evillab", "[::1", "x@y:z", "[::2]:80"):
            status, body, _ = ask(f"{url}/v1/models", host=foreign)
            assert (status, body["error"]["code"]) == (400, "unknown_host"), foreign
        assert ask(f"{url}/v1/models", host="evil.example")[0] == 400


def test_other_pages_may_ask_where_their_origin_is_allowed(loaded: ChatModel) -> None:
    model, _ = scripted(loaded)
    for origins, allowed in (((), None), (("https://good.example",), "https://good.example")):
        with running(state_of({"tiny": model}), origins=origins) as url:
            headers = ask(f"{url}/v1/models", origin="https://good.example")[2]
            assert headers.get("access-control-allow-origin") == allowed
            assert "access-control-allow-origin" not in ask(f"{url}/v1/models", origin="https://evil.example")[2]


def test_the_numbers_of_requests_and_tokens(loaded: ChatModel) -> None:
    model, _ = scripted(loaded)
    model.numbers = lambda: {"waiting": 3.0}  # type: ignore[method-assign]
    with running(state_of({"tiny": model})) as url:
        ask(f"{url}/v1/chat/completions", asked("?"))
        ask(f"{url}/v1/chat/completions", {"model": "tiny"})
        ask(f"{url}/secret/{'x' * 50}")
        page = ask(f"{url}/metrics")[1]
    assert 'mllm_requests_total{path="/v1/chat/completions",status="200"} 1.0' in page
    assert 'mllm_requests_total{path="/v1/chat/completions",status="400"} 1.0' in page
    assert 'path="other",status="404"' in page
    assert "secret" not in page
    assert 'mllm_engine_waiting{model="tiny"} 3.0' in page
    assert 'mllm_time_to_first_token_seconds_count{model="tiny"} 1.0' in page


def test_an_error_that_nobody_foresaw_is_a_number_in_the_log(
    loaded: ChatModel, caplog: pytest.LogCaptureFixture
) -> None:
    model, script = scripted(loaded)
    script.refusal = KeyError("/secret/path")
    with running(state_of({"tiny": model})) as url:
        status, body, _ = ask(f"{url}/v1/chat/completions", asked("?"))
    assert status == 500
    assert "secret" not in json.dumps(body)
    name = body["error"]["message"].split("error ")[1].split()[0]
    assert name in caplog.text
    assert "/secret/path" in caplog.text
