"""Many clients at once: the engine beside the model alone and beside batching without shared images.

    python tools/bench/fixture.py /tmp/fixture
    OMP_NUM_THREADS=1 python tools/bench/serve.py /tmp/fixture

Clients take requests in turn, as soon as their last one is answered; several questions follow about each image. A
tenth of the requests is broken (pixels that are no numbers, an image without its tokens; over HTTP half an image, half
a body) or hangs up, at once or in the middle of its answer. Each contender runs in a process of its own, `--rounds`
times in turn, in float32 and greedily; opening and encoding images is in the time, and over HTTP the clients are, too.
It prints a JSON line each time, then medians: good requests per second of process CPU time and per second, the 95th
percentile of the time to the first token and to the last, and how many good answers are word for word those of the
model alone. `--memory N` asks the engine N requests instead, of a quarter of the length and with room for a quarter of
the images, and prints its resident memory along the way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from evaluate import Clock, set_threads

from mllm.types import IMAGE

ALONE, UNSHARED, ENGINE = "the model alone, one at a time", "batching without sharing", "engine"
HTTP = "engine, over HTTP"
CONTENDERS = (ALONE, UNSHARED, ENGINE, HTTP)
TENTH = 10
LARGER = 4
"""Times as large are the random weights, by which the model says something else to each question."""
WAYS_TO_FAIL = ("not numbers", "hangs up at once", "no tokens", "hangs up later")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What became of a request."""

    text: str | None = None
    """None: it was not answered."""
    first_s: float = 0.0
    last_s: float = 0.0
    error: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, metavar="N", help="ask N requests, and watch the memory")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        watch(given.fixture, given.clients, given.memory)
    elif given.only:
        print(json.dumps(run(given.only, given.fixture, given.clients, given.requests)))
    else:
        compare(given)


def compare(given: argparse.Namespace) -> None:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for _ in range(given.rounds):
        for name in CONTENDERS:
            command = [sys.executable, __file__, given.fixture, "--only", name]
            command += ["--clients", str(given.clients), "--requests", str(given.requests)]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                sys.exit(f"{name} failed:\n{ran.stderr[-4000:]}")
            result = json.loads(ran.stdout.splitlines()[-1])
            found[name].append(result)
            shown = {key: value for key, value in result.items() if key != "answers"}
            print(json.dumps({"contender": name, **shown}), flush=True)
    print(table(found))


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    expected = found[ALONE][0]["answers"]
    lines = [f"{'':32}{'/ CPU s':>9}{'ratio':>7}{'/ s':>8}{'first, p95':>12}{'last, p95':>11}{'same answers':>16}"]
    speeds: dict[str, float] = {}
    for name, results in found.items():
        middle = {key: statistics.median(each[key] for each in results) for key in ("good_per_cpu_s", "good_per_s")}
        times = [statistics.median(each[key] for each in results) for key in ("first_p95_s", "last_p95_s")]
        speeds[name] = middle["good_per_cpu_s"]
        same = min(sum(each["answers"].get(n) == text for n, text in expected.items()) for each in results)
        lines.append(
            f"{name:32}{speeds[name]:9.2f}{speeds[name] / speeds[ALONE]:7.2f}{middle['good_per_s']:8.2f}"
            f"{times[0]:10.2f} s{times[1]:9.2f} s{f'{same} of {len(expected)}':>16}"
        )
    lines.append(f"{len(set(expected.values()))} different answers")
    lines.append(f"engine / batching without sharing: {speeds[ENGINE] / speeds[UNSHARED]:.2f}")
    return "\n".join(lines)


def run(name: str, fixture: str, clients: int, requests: int) -> dict[str, Any]:
    set_threads()
    session = load(fixture)
    if name == ALONE:
        ask, close, stats = alone(session)
    elif name == HTTP:
        ask, close, stats = over_http(session, clients)
    else:
        ask, close, stats = engine(session, clients, shared=name == ENGINE)
    with Clock() as clock:
        found = ask_all(ask, questions(fixture, requests), 1 if name == ALONE else clients)
    close()
    good = {n: asked for n, asked in enumerate(found) if kind(n) is None}
    failed = [asked for n, asked in enumerate(found) if kind(n) is not None]
    unanswered = [f"{n}: {asked.error}" for n, asked in good.items() if asked.text is None]
    if unanswered or any(asked.text is not None for asked in failed):
        sys.exit(f"good requests without an answer: {unanswered}, or broken ones with one")
    seconds = clock.seconds()
    return {
        **seconds,
        "good_per_s": len(good) / seconds["sec"],
        "good_per_cpu_s": len(good) / seconds["cpu_sec"],
        "first_p95_s": p95([asked.first_s for asked in good.values()]),
        "last_p95_s": p95([asked.last_s for asked in good.values()]),
        **stats(),
        "answers": {str(n): asked.text for n, asked in good.items()},
    }


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def kind(number: int) -> str | None:
    """How a request fails; None: it is a good one."""
    return WAYS_TO_FAIL[number // TENTH % len(WAYS_TO_FAIL)] if number % TENTH == TENTH - 1 else None


def new_tokens(number: int) -> int:
    """At most, of an answer: 12 to 44."""
    return 12 + 5 * number % 33


def load(fixture: str) -> Any:
    import torch

    import mllm

    session = mllm.load(
        f"{fixture}/model", device="cpu", type="llava", template="chat", placement="crop", dtype="float32"
    )
    with torch.no_grad():
        for parameter in session.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(LARGER)
    return session


def questions(fixture: str, count: int) -> list[Any]:
    """Items, several about an image one after the other; from the first again where there are not as many."""
    from mllm.registry import DATASETS

    items = DATASETS.make({"type": "Instruct", "filename": f"{fixture}/llava.json", "image_folder": fixture})
    return [items[number % len(items)] for number in range(count)]


Ask = Callable[[int, Any], Asked]


def ask_all(ask: Ask, items: list[Any], clients: int) -> list[Asked]:
    found: list[Asked | None] = [None] * len(items)
    numbers = iter(range(len(items)))
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            found[number] = ask(number, items[number])

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [asked or Asked(error="its client failed") for asked in found]


def encoded(session: Any, number: int, item: Any) -> Any:
    """The prompt as it is sent: some are broken."""
    import torch

    sample = session.processor.encode(item, number, answer=False)
    if kind(number) == "no tokens":
        return replace(sample, input_ids=sample.input_ids[sample.images_end :], images_end=0)
    if kind(number) == "not numbers":
        nan = {name: torch.full_like(tensor, torch.nan) for name, tensor in sample.pixels[0].items()}
        return replace(sample, pixels=(nan,))
    return sample


def alone(session: Any) -> tuple[Ask, Callable[[], None], Callable[[], dict[str, Any]]]:
    from mllm.conversation.collator import Collator
    from mllm.pipeline.evaluate import stop_arguments

    collator = Collator(pad_token_id=session.processor.tokenizer.pad_token_id)

    def ask(number: int, item: Any) -> Asked:
        if kind(number) is not None:
            return Asked()
        start = time.perf_counter()
        batch: dict[str, Any] = dict(collator([encoded(session, number, item)]))
        del batch["index"]
        settings = {"do_sample": False, "max_new_tokens": new_tokens(number), **stop_arguments(session.processor)}
        ids = session.model.generate(**batch, **settings)[0].tolist()
        seconds = time.perf_counter() - start
        return Asked(text=session.processor.decode(ids, item, number).text, first_s=seconds, last_s=seconds)

    return ask, lambda: None, dict


def engine(
    session: Any, rows: int, *, shared: bool, prefix_cache_bytes: int = 1 << 30, shorter: int = 1
) -> tuple[Ask, Callable[[], None], Callable[[], dict[str, Any]]]:
    from mllm.serve import engine as module
    from mllm.serve.engine import Engine, Finished, NewToken, Sampling

    if not shared:
        module.prefix_key = lambda sample: None
    served = Engine(
        session.model,
        session.processor,
        session.device,
        max_rows=rows,
        max_waiting=rows,
        prefix_cache_bytes=prefix_cache_bytes,
    )

    def ask(number: int, item: Any) -> Asked:
        start = time.perf_counter()
        ids: list[int] = []
        times: list[float] = []
        ends: list[Finished] = []
        ended, begun = threading.Event(), threading.Event()

        def listen(news: NewToken | Finished) -> None:
            if isinstance(news, NewToken):
                ids.append(news.id)
                times.append(time.perf_counter() - start)
                begun.set()
            else:
                ends.append(news)
                begun.set()
                ended.set()

        sampling = Sampling(max_new_tokens=new_tokens(number) // shorter)
        ticket = served.submit(encoded(session, number, item), sampling, listen)
        if kind(number) == "hangs up at once":
            ticket.cancel()
        elif kind(number) == "hangs up later":
            begun.wait()
            ticket.cancel()
        ended.wait()
        if ends[0].reason not in ("stop", "length"):
            return Asked(error=str(ends[0].error or ends[0].reason))
        return Asked(text=session.processor.decode(ids, item, number).text, first_s=times[0], last_s=times[-1])

    return ask, lambda: served.close(drain_s=0), lambda: counts(served)


def counts(served: Any) -> dict[str, Any]:
    stats = served.stats()
    names = ("steps", "new_tokens", "prefix_hits", "prefix_reads", "prefill_s", "decode_s", "finished")
    return {name: getattr(stats, name) for name in names}


def over_http(session: Any, rows: int) -> tuple[Ask, Callable[[], None], Callable[[], dict[str, Any]]]:
    """A server in this process, and streaming clients on loopback."""
    import uvicorn

    from mllm.serve.api.app import create_app
    from mllm.serve.api.images import ImageReader
    from mllm.serve.api.limits import Limits
    from mllm.serve.api.monitoring import Monitor
    from mllm.serve.api.served import LocalModel
    from mllm.serve.api.state import ServerState
    from mllm.serve.engine import Engine

    served = Engine(session.model, session.processor, session.device, max_rows=rows, max_waiting=rows)
    limits = Limits(max_rows=rows, max_waiting=rows)
    model = LocalModel("bench", session.processor, served, {"type": "llava"})
    state = ServerState(
        limits=limits,
        images=ImageReader(limits=limits, urls=False),
        monitor=Monitor(lambda: {"bench": model.numbers()}),
        models={"bench": model},
        state="ready",
    )
    server = uvicorn.Server(uvicorn.Config(create_app(state), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def ask(number: int, item: Any) -> Asked:
        start = time.perf_counter()
        with closing(HTTPConnection("127.0.0.1", port)) as connection:
            headers = {"content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", body_of(number, item), headers)
            if kind(number) == "hangs up at once":
                return Asked(error="hung up")
            response = connection.getresponse()
            if response.status != 200:
                return Asked(error=response.read().decode())
            words: list[str] = []
            times: list[float] = []
            for line in response:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line.removeprefix(b"data: "))
                if "error" in event:
                    return Asked(error=event["error"]["message"])
                times.append(time.perf_counter() - start)
                words += [choice["delta"].get("content") or "" for choice in event["choices"]]
                if kind(number) == "hangs up later":
                    return Asked(error="hung up")
        return Asked(text="".join(words), first_s=times[1], last_s=times[-1])

    def close() -> None:
        end = time.monotonic() + 10
        while (served.stats().running or served.stats().waiting) and time.monotonic() < end:
            time.sleep(0.01)
        if served.stats().running:
            sys.exit("a client that hung up still has its row")
        server.should_exit = True
        thread.join()

    return ask, close, lambda: counts(served)


def body_of(number: int, item: Any) -> bytes:
    data = Path(item.images[0].path).read_bytes()
    if kind(number) == "not numbers":
        data = data[: len(data) // 2]
    url = f"data:image/png;base64,{b64encode(data).decode()}"
    text = item.turns[0].text.replace(IMAGE, "").strip()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    body = {"model": "bench", "messages": [{"role": "user", "content": content}], "temperature": 0, "stream": True}
    written = json.dumps({**body, "max_tokens": new_tokens(number)}).encode()
    return written[:-9] if kind(number) == "no tokens" else written


def watch(fixture: str, clients: int, requests: int) -> None:
    set_threads()
    session = load(fixture)
    items = questions(fixture, requests)
    images = len({item.images for item in items})
    sample = session.processor.encode(items[0], 0, answer=False)
    text = session.model.text_model.config
    size = sample.images_end * 2 * text.num_hidden_layers * text.hidden_size * 4
    room = max(1, images // 4) * size
    ask, close, _ = engine(session, clients, shared=True, prefix_cache_bytes=room, shorter=4)
    part = max(1, requests // 10)
    for start in range(0, requests, part):
        ask_all(lambda number, item, start=start: ask(start + number, item), items[start : start + part], clients)
        print(json.dumps({"requests": min(requests, start + part), "resident_mib": round(resident())}), flush=True)
    close()


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
