"""Our regions, page and shapes in front of another server: here, of ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mllm.errors import ModelError
from mllm.serve.chat_model import ChatModel
from tests.serve.api.running import asked, painted, running, scripted, state_of

openai = pytest.importorskip("openai")

TEXT = "There: [[250,250,500,500]]."


@pytest.fixture
def chain(loaded: ChatModel) -> Any:
    """(client of the front, script of the model behind, state behind)"""
    from mllm.serve.api.backend import EngineModel

    model, script = scripted(loaded)
    script.text = TEXT
    behind = state_of({"tiny": model})
    with (
        running(behind) as url,
        running(state_of({"tiny": EngineModel("tiny", [f"{url}/v1"], codec="cogvlm")})) as front,
    ):
        yield openai.OpenAI(base_url=f"{front}/v1", api_key="-", max_retries=0, timeout=10), script, behind


def test_the_answer_of_the_backend_with_regions_in_pixels(chain: Any) -> None:
    client, script, _ = chain
    request = asked("Where is <boxes>?", painted((60, 60)), extra_body={"regions": [{"boxes": [[6, 6, 30, 30]]}]})
    found = client.chat.completions.create(**request, seed=4, stop=["END"], max_tokens=40)
    assert found.choices[0].message.content == TEXT
    (region,) = found.choices[0].message.regions
    assert region["boxes"] == [pytest.approx([15, 15, 30, 30], abs=0.2)]
    assert "[[100,100,500,500]]" in script.processor.tokenizer.decode(script.samples[0].input_ids)
    assert (script.samplings[0].seed, script.samplings[0].stop) == (4, ("END",))
    assert found.usage.prompt_tokens == len(script.samples[0].input_ids)


def test_a_stream_of_the_backend(chain: Any) -> None:
    client, _, _ = chain
    chunks = list(client.chat.completions.create(**asked("Where?", painted((60, 60))), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    regions = [region for chunk in chunks for region in getattr(chunk.choices[0].delta, "regions", None) or []]
    assert len(regions) == 1


def test_errors_of_the_backend_are_told_apart(chain: Any) -> None:
    client, script, behind = chain
    script.error = ModelError("nan")
    with pytest.raises(openai.APIStatusError, match="the backend failed") as error:
        client.chat.completions.create(**asked("?"))
    assert error.value.status_code == 502
    behind.models.clear()
    with pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(**asked("?"))
    assert error.value.status_code == 502


def test_a_server_of_ours_gets_and_gives_the_regions_as_they_are(loaded: ChatModel) -> None:
    from mllm.serve.api.backend import MllmModel

    model, script = scripted(loaded)
    script.text = "It <bin_4><bin_4><bin_8><bin_8> is here from 0 to 0.5 s"
    regions = [{"boxes": [[10, 10, 30, 20]]}, {"image": 1, "boxes": [[5, 5, 9, 9]]}]
    more = {"regions": regions, "video_duration": 1.0}
    request = asked("Which is <boxes>, which <boxes>?", painted(), painted((30, 30)), extra_body=more)
    for time, part in enumerate(request["messages"][0]["content"][:2]):
        part["time"] = time
    with (
        running(state_of({"tiny": model})) as one,
        running(state_of({"tiny": model})) as two,
        running(state_of({"tiny": MllmModel("tiny", [f"{one}/v1", f"{two}/v1"], {}, timeout=10)})) as front,
    ):
        asking = [openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) for url in (one, front)]
        direct, through = (client.chat.completions.create(**request) for client in asking)
        streamed = list(asking[1].chat.completions.create(**request, stream=True))
    assert through.choices[0].message == direct.choices[0].message
    assert through.choices[0].message.time_spans == [[0.0, 0.5]]
    assert through.usage == direct.usage
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == script.text
    first, second, third = [sample.input_ids.tolist() for sample in script.samples]
    assert first == second == third
    pixels = [[image["pixels"] for image in sample.pixels] for sample in script.samples[:2]]
    assert all((here == there).all() for here, there in zip(*pixels, strict=True))


@contextmanager
def foreign(*chunks: str, status: int = 200) -> Iterator[str]:
    """A server that streams these events to whoever asks, and closes the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(f"{len(chunk):x}\r\n{chunk}\r\n".encode())
            self.close_connection = True

        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


WORD = 'data: {"choices":[{"index":0,"delta":{"content":"It"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ([WORD], "the backend failed"),  # it died
        ([WORD, 'data: {"cho\n\n'], "the backend failed"),
        ([WORD, "data: [DONE]\n\n"], "ended before the answer"),
        ([WORD, 'data: {"choices":[{}]}\n\n'], "OpenAI's API does not have"),
        (['data: {"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":1}}\n\n'], "number of tokens"),
    ],
    ids=["dies", "no-json", "no-end", "odd-chunk", "odd-usage"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_backend_that_fails_while_it_streams_is_an_error_at_once(chunks: list[str], said: str, stream: bool) -> None:
    from mllm.serve.api.backend import EngineModel

    with (
        foreign(*chunks) as url,
        running(state_of({"tiny": EngineModel("tiny", [url], codec="cogvlm")})) as front,
    ):
        client = openai.OpenAI(base_url=f"{front}/v1", api_key="-", max_retries=0, timeout=5)
        with pytest.raises(openai.APIError, match=said):
            list(client.chat.completions.create(**asked("?"), stream=stream))
