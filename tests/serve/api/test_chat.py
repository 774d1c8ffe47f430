"""`POST /v1/chat/completions`, asked by the official client."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from mllm.errors import ModelError
from mllm.images import MemoryImage, VideoFrame
from mllm.serve.api.chat import LATE_S, EventStream
from mllm.serve.api.limits import Limits
from mllm.serve.api.problems import Problem
from mllm.serve.chat_model import ChatModel
from mllm.serve.question import Message, to_item
from mllm.serve.request import Finished, QueueFull
from mllm.serve.sampling import Sampling
from mllm.types import Box
from tests.serve.api.running import Script, asked, painted, running, scripted, state_of, until

openai = pytest.importorskip("openai")

TEXT = "It <bin_4><bin_4><bin_8><bin_8> is here."


@pytest.fixture
def served(loaded: ChatModel) -> Iterator[tuple[Any, Script, str]]:
    model, script = scripted(loaded)
    with running(state_of({"tiny": model})) as url:
        client = openai.OpenAI(
            base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=10, _strict_response_validation=True
        )
        yield client, script, url


def test_a_whole_answer_with_its_regions(served: Any) -> None:
    client, script, _ = served
    script.text = TEXT
    found = client.chat.completions.create(**asked("Where is it?", painted(), seed=3))
    choice = found.choices[0]
    assert choice.message.content == TEXT
    (region,) = choice.message.regions
    assert region["boxes"] == [pytest.approx([15, 5, 30, 20], abs=2)]
    assert TEXT[slice(*region["span"])] == "<bin_4><bin_4><bin_8><bin_8>"
    assert choice.finish_reason == "stop"
    assert found.usage.prompt_tokens == len(script.samples[0].input_ids)
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


def test_the_prompt_is_that_of_the_python_interface(served: Any, loaded: ChatModel) -> None:
    client, script, _ = served
    client.chat.completions.create(
        **asked("What is <boxes>?", painted(), extra_body={"regions": [{"boxes": [[10, 10, 30, 20]]}]})
    )
    item = to_item([Message(role="user", text="What is <boxes>?", images=[painted()], boxes=[[10, 10, 30, 20]])])
    assert script.samples[0].input_ids.tolist() == loaded.processor.encode(item, 0, answer=False).input_ids.tolist()


def test_an_answer_sent_back_is_read_on_the_image_of_its_regions(served: Any, loaded: ChatModel) -> None:
    """A box at the upper edge, which the first image, wider than high, does not have."""
    client, script, _ = served
    script.text = "<bin_6><bin_0><bin_10><bin_2>"
    images = painted(), painted((40, 60))
    request = asked("Which?", *images, extra_body={"answer_image": 1})
    said = client.chat.completions.create(**request).choices[0].message
    assert [region["image"] for region in said.regions] == [1]
    messages = [*request["messages"], said.model_dump(exclude_none=True), {"role": "user", "content": "Sure?"}]
    client.chat.completions.create(model="tiny", messages=messages)
    ((x1, y1, x2, y2),) = said.regions[0]["boxes"]
    asked_again = to_item(
        [
            Message(role="user", text="<image><image>\nWhich?", images=images, answer_image=1),
            Message(role="assistant", text="<boxes>", boxes=[Box(x1=x1, y1=y1, x2=x2, y2=y2, image=1)]),
            Message(role="user", text="Sure?"),
        ]
    )
    ids = loaded.processor.encode(asked_again, 0, answer=False).input_ids
    assert script.samples[-1].input_ids.tolist() == ids.tolist()


def test_a_stream_is_the_whole_answer_in_pieces_with_regions_once(served: Any) -> None:
    client, script, _ = served
    script.text = TEXT
    request = asked("Where?", painted(), stream=True, stream_options={"include_usage": True})
    chunks = list(client.chat.completions.create(**request))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 3
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == TEXT
    regions = [region for delta in deltas for region in getattr(delta, "regions", None) or []]
    assert [region["index"] for region in regions] == [0]
    assert chunks[-2].choices[0].finish_reason == "stop"
    with client.chat.completions.stream(**asked("Where?", painted())) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == TEXT


def test_several_choices_have_seeds_of_their_own_and_the_first_that_of_the_request(served: Any) -> None:
    client, script, _ = served
    found = client.chat.completions.create(**asked("?", n=3, seed=5, temperature=0.7, stop=["x", "y"], max_tokens=9))
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    seeds = [sampling.seed for sampling in script.samplings]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3
    first = script.samplings[0]
    assert (first.temperature, first.stop, first.max_new_tokens) == (0.7, ("x", "y"), 9)


def test_log_probabilities(served: Any) -> None:
    client, _, _ = served
    request = asked("?", logprobs=True, top_logprobs=1)
    content = client.chat.completions.create(**request).choices[0].logprobs.content
    assert "".join(token.token for token in content).strip() == "It is here"
    assert {(token.logprob, len(token.top_logprobs)) for token in content} == {(-0.5, 1)}
    assert bytes(content[0].bytes).decode() == content[0].token
    streamed = client.chat.completions.create(**request, stream=True)
    found = [
        token.token for chunk in streamed if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content
    ]
    assert found == [token.token for token in content]


def test_an_answer_that_is_cut_says_so(served: Any) -> None:
    client, _, _ = served
    assert client.chat.completions.create(**asked("?", max_completion_tokens=2)).choices[0].finish_reason == "length"


def test_a_conversation_goes_on_with_the_message_that_came(served: Any) -> None:
    client, script, _ = served
    script.text = TEXT
    request = asked("Where is it?", painted())
    message = client.chat.completions.create(**request).choices[0].message
    request["messages"] += [message, {"role": "user", "content": "And now?"}]
    client.chat.completions.create(**request)
    words = script.processor.tokenizer.decode(script.samples[1].input_ids)
    assert "<bin_4><bin_4><bin_8><bin_8>" in words
    assert "And now?" in words


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"n": "many"}, "n", "valid integer"),
        ({"colour": "red"}, "colour", "no such field"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"max_tokens": 5000}, "max_tokens", "at most 4096"),
        ({"n": 99}, "n", "at most 8"),
        ({"stop": [""]}, None, "empty text"),
        ({"tools": [{"type": "function"}]}, "tools", "no such field"),
        ({"presence_penalty": 1}, "presence_penalty", "0"),
        ({"response_format": {"type": "json_object"}}, "response_format.type", "'text'"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "robot", "content": "?"}]}, "messages[0].role", "'user'"),
        ({"messages": [{"role": "assistant", "content": "?"}]}, None, "user's message at the end"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages[0].content[0]", "'image_url'"),
        ({"messages": [{"role": "user", "content": "<image> what?"}]}, "messages[0].content[0].text", "image_url part"),
        ({"messages": [{"role": "user", "content": "What is <boxes>?"}]}, "regions", "too few"),
        ({"regions": [{"boxes": [[0, 0, 1, 1]]}]}, "regions", "1 more"),
        ({"regions": [{"boxes": [[0, 0, 1]]}]}, "regions[0].boxes[0]", "at least 4"),
        ({"regions": [{}]}, "regions[0]", "either boxes or points"),
        ({"messages": [{"role": "user", "content": "<video>?"}]}, "messages[0].content[0].text", "each frame"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "a text or a list"),
        ({"answer_image": 2}, "answer_image", "one of 0 images"),
        ({"video_duration": 2}, "video_duration", "images with a time"),
        ({"top_logprobs": 2}, None, "logprobs=true"),
        ({"seed": 1.5}, "seed", "valid integer"),
        ({"model": "other"}, "model", "expected one of tiny"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    served: Any, change: dict[str, Any], param: str | None, said: str
) -> None:
    client, script, _ = served
    with pytest.raises(openai.APIStatusError) as error:
        client.post("/chat/completions", body={**asked("?"), **change}, cast_to=object)
    assert error.value.status_code == (404 if "model" in change else 400)
    assert error.value.body["param"] == param
    assert said in error.value.message
    assert script.samples == []


@pytest.mark.parametrize(
    ("text", "regions", "said"),
    [
        ("What is <boxes>?", [{"boxes": [[5, 5, 2, 9]]}], "regions[0]: boxes[0]: expected x1 <= x2"),
        ("What is <boxes>?", [{"boxes": [[500, 500, 600, 600]]}], "regions[0].boxes[0]: expected pixels of its image"),
        ("What is <boxes>?", [{"image": 3, "boxes": [[5, 5, 9, 9]]}], "regions[0].image"),
        ("What is <points>?", [{"points": [[100, 2]]}], "regions[0].points[0]: expected pixels of its image"),
    ],
)
def test_regions_that_no_image_has(served: Any, text: str, regions: list[Any], said: str) -> None:
    client, _, _ = served
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**asked(text, painted(), extra_body={"regions": regions}))
    assert said in error.value.message


def test_the_size_that_the_client_shows_is_compared(served: Any) -> None:
    """A photo that is stored lying down and shown upright."""
    client, _, _ = served
    turned = Image.new("RGB", (60, 40))
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    url = f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"
    request = asked("?")
    request["messages"][0]["content"].insert(0, {"type": "image_url", "image_url": {"url": url}})
    client.chat.completions.create(**request, extra_body={"image_sizes": [[40, 60]]})
    with pytest.raises(openai.BadRequestError, match="60 x 40 pixels, the image here is 40 x 60"):
        client.chat.completions.create(**request, extra_body={"image_sizes": [[60, 40]]})


def test_a_failure_of_the_model_is_an_error_with_its_cause(served: Any) -> None:
    client, script, _ = served
    script.error = ModelError("the scores of the next token are nan")
    with pytest.raises(openai.InternalServerError, match="scores of the next token are nan"):
        client.chat.completions.create(**asked("?"))
    with pytest.raises(openai.APIError, match="scores of the next token are nan"):
        list(client.chat.completions.create(**asked("?"), stream=True))


def test_a_full_queue_is_429_with_its_length_and_retry_after(served: Any) -> None:
    client, script, _ = served
    script.refusal = QueueFull(waiting=64, retry_after_s=7)
    with pytest.raises(openai.RateLimitError, match="64 requests") as error:
        client.chat.completions.create(**asked("?"))
    assert error.value.response.headers["retry-after"] == "7"


def test_more_requests_than_places_are_refused_before_they_are_read(loaded: ChatModel) -> None:
    model, script = scripted(loaded)
    script.go.clear()
    state = state_of({"tiny": model}, limits=Limits(max_rows=1, max_waiting=1))
    with running(state) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0, timeout=10)
        held = [_begun(url, asked("?")) for _ in range(2)]
        until(lambda: len(script.samples) == 2)
        with pytest.raises(openai.RateLimitError):
            client.post("/chat/completions", body={"not": "read"}, cast_to=object)
        script.go.set()
        assert all(b"200 OK" in sock.recv(1000) for sock in held)
        until(lambda: state.active == 0)
        client.chat.completions.create(**asked("?"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_place(loaded: ChatModel, stream: bool) -> None:
    model, script = scripted(loaded)
    script.go.clear()
    state = state_of({"tiny": model})
    with running(state) as url:
        sock = _begun(url, asked("?", stream=stream))
        until(lambda: script.samples)
        assert state.active == 1
        sock.close()
        until(lambda: script.cancelled == [0])
        until(lambda: state.active == 0)


def test_a_request_that_takes_too_long(loaded: ChatModel) -> None:
    model, script = scripted(loaded)
    script.go.clear()
    with running(state_of({"tiny": model}, limits=Limits(timeout_s=0.3))) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0, timeout=10)
        with pytest.raises(openai.InternalServerError, match=r"more than 0\.3 seconds"):
            client.chat.completions.create(**asked("?"))
        with pytest.raises(openai.APIError, match=r"more than 0\.3 seconds"):
            list(client.chat.completions.create(**asked("?"), stream=True))
        until(lambda: script.cancelled == [0, 1])


def test_forms_of_other_pages_are_not_read(served: Any) -> None:
    """A page elsewhere may post text without being asked, not JSON."""
    _, script, url = served
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(asked("?")).encode())
    request.add_header("content-type", "text/plain")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert error.value.code == 415
    assert script.samples == []


def _begun(url: str, body: dict[str, Any]) -> socket.socket:
    """A connection with a request on it."""
    data = json.dumps(body).encode()
    sock = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10)
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    sock.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
    return sock


def test_a_client_that_does_not_read_its_stream_does_not_keep_its_place() -> None:
    released: list[bool] = []

    async def events() -> AsyncIterator[str]:
        yield "data: {}"

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def stream() -> None:
        stack = ExitStack()
        stack.callback(released.append, True)
        deadline = asyncio.get_running_loop().time() - LATE_S + 0.05
        scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
        await asyncio.wait_for(EventStream(events(), until=stack, deadline=deadline)(scope, never, never), 5)

    asyncio.run(stream())
    assert released == [True]


def test_an_answer_that_the_closing_engine_cut_is_no_whole_one(loaded: ChatModel) -> None:
    model, _ = scripted(loaded)
    question = model.prepare([Message(role="user", text="Where?")], None)
    generation = model.start(question, Sampling(), lambda event: None)
    with pytest.raises(Problem, match="the server stopped before the answer was complete"):
        generation.take(Finished(reason="cancelled"))


def film(*times: float | None) -> dict[str, Any]:
    """A question about frames of these times, which in part differ in their pixels."""
    request = asked("When?", *(painted((40 + 2 * number, 60)) for number in range(len(times))))
    parts = [part for part in request["messages"][0]["content"] if part["type"] == "image_url"]
    for part, time in zip(parts, times, strict=True):
        part |= {} if time is None else {"time": time}
    return request


def test_frames_of_a_video_are_asked_about_and_answered_in_seconds(served: Any, loaded: ChatModel) -> None:
    client, script, _ = served
    script.text = "From 0.5 to 2 seconds."
    said = client.chat.completions.create(**film(0, 1.5, 3)).choices[0].message
    assert said.time_spans == [[0.5, 2.0]]
    photos = [MemoryImage(painted((40 + 2 * number, 60))) for number in range(3)]
    frames = [VideoFrame(ref=photo, time=time) for photo, time in zip(photos, (0, 1.5, 3), strict=True)]
    item = to_item([Message(role="user", text="When?", images=frames)])
    assert script.samples[0].input_ids.tolist() == loaded.processor.encode(item, 0, answer=False).input_ids.tolist()
    chunks = list(client.chat.completions.create(**film(0, 1.5, 3), stream=True))
    assert [getattr(chunk.choices[0].delta, "time_spans", None) for chunk in chunks][-2:] == [None, [[0.5, 2.0]]]
    late = client.chat.completions.create(**film(0, 1.5, 3), extra_body={"video_duration": 0.2})
    assert late.choices[0].message.time_spans == []
    request = film(0, 1.5, 3)
    request["messages"] += [said.model_dump(exclude_none=True), {"role": "user", "content": "Sure?"}]
    assert client.chat.completions.create(**request).choices[0].message.time_spans == [[0.5, 2.0]]
    assert not hasattr(client.chat.completions.create(**asked("When?", painted())).choices[0].message, "time_spans")


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ((0, None), "messages[0].content[1].time: expected the time of each frame, found none"),
        ((2, 2), "messages[0].content[1].time: expected more than 2, found 2"),
        ((-1,), "greater than or equal to 0"),
    ],
)
def test_times_that_no_video_has(served: Any, times: tuple[float | None, ...], said: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        served[0].chat.completions.create(**film(*times))
    assert said in raised.value.message
