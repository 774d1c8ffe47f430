"""Answers of a model behind an OpenAI-compatible server, scored like those of a model that is loaded here.

The server gets the words of the item with its regions written by the codec, and each image as the codec's convention
places it, so that the coordinates of the answer are read in the very frame that was sent.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from PIL import Image
from tqdm.auto import tqdm

from mllm.config.config import load
from mllm.conversation.codec_base import none_text
from mllm.conversation.convention import CanvasPlacement, Convention, make_convention
from mllm.conversation.item_codec import ItemCodec
from mllm.conversation.pixels import PixelCodec
from mllm.conversation.preprocessing.tiling import lay
from mllm.conversation.rendering import TextSpan, written_turn
from mllm.conversation.time_form import with_time_spans
from mllm.errors import ConfigError, RunError
from mllm.fields import show
from mllm.images import ImageRef, Video
from mllm.interrupts import INTERRUPTS, Interrupted
from mllm.metrics.outcome import ImageIds, Outcome, outcome
from mllm.pipeline.data import load_data
from mllm.pipeline.output_folder import locked
from mllm.pipeline.provenance import of_data, to_json
from mllm.pipeline.results import resumable, write_predictions, write_results
from mllm.pipeline.train_data import EvalItems, ItemDataset
from mllm.report.index import REPORT
from mllm.report.summary import summary
from mllm.types import IMAGE, Item, Prediction

if TYPE_CHECKING:
    from mllm.config.command_line import Given
    from mllm.pipeline.answering import TestSet

SENT = {"max_new_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p"}
"""Generation arguments that the API knows, and their names there."""
SIDE = 1024
"""Pixels of the square that an image is sent as, where its codec's fractions are of a square."""
BACKGROUND = (127, 127, 127)
"""Around an image that is padded, as models are used to the mean colour."""


@dataclass(slots=True, kw_only=True)
class RemoteServer:
    """A model behind an OpenAI-compatible server.

    Attributes:
        url: up to `/v1`; `name`: the model's name there.
        concurrency: requests at once.
        timeout: seconds that one attempt may take.
        retries: further attempts after a timeout, a broken connection, a full server (429) or an error of its own
            (5xx), with growing pauses, or those that the server asks for.
    """

    url: str
    name: str
    key: str = ""
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 8
    generation: Mapping[str, Any] = field(default_factory=dict[str, Any])
    usage: dict[str, int] = field(default_factory=lambda: {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0})
    _lock: Any = field(default_factory=Lock)

    def client(self) -> Any:
        """The official client.

        Raises:
            ConfigError: it is not installed.
        """
        try:
            from openai import OpenAI
        except ImportError as error:
            raise ConfigError("--api needs the package openai: pip install 'mllm[api]'") from error
        return OpenAI(base_url=self.url, api_key=self.key or "none", timeout=self.timeout, max_retries=self.retries)

    def answer(self, client: Any, messages: Sequence[Mapping[str, object]], where: str) -> str:
        """The text that the model answers.

        Raises:
            RunError: the server refuses the request, or does not answer however often it is asked; names the item.
        """
        from openai import APIError

        try:
            completion = client.chat.completions.create(model=self.name, messages=messages, **self.generation)
        except APIError as error:
            raise RunError(where=where, message=f"{self.url}: {type(error).__name__}: {str(error)[:300]}") from error
        choices = completion.choices
        if not choices or choices[0].message.content is None:
            raise RunError(where=where, expected=f"an answer of {self.url}", found="none")
        used = completion.usage
        with self._lock:
            self.usage["requests"] += 1
            self.usage["prompt_tokens"] += used.prompt_tokens if used else 0
            self.usage["completion_tokens"] += used.completion_tokens if used else 0
        return choices[0].message.content


def start(
    given: Given,
    *,
    url: str,
    name: str,
    codec: str | None,
    placement: CanvasPlacement | None,
    concurrency: int,
    retries: int,
    timeout: float,
) -> None:
    """Run what `mllm predict CONFIG --api URL` says.

    Raises:
        ConfigError: neither the config nor the command line says how the model writes boxes, among others.
    """
    if not re.match(r"https?://[^/]+", url):
        raise ConfigError(field="--api", expected="an address such as http://127.0.0.1:8000/v1", found=show(url))
    cfg, args = load(given)
    sections = cfg.to_dict()
    written = codec or sections["model_args"].get("codec")
    if written is None:
        raise ConfigError(
            field="model_args.codec",
            expected="the codec in which the model writes boxes (or set --codec)",
            found="nothing",
        )
    kind = placement or sections["model_args"].get("placement")
    numbers = bool(sections["model_args"].get("image_numbers"))
    convention = make_convention(written, placement=kind, image_size=SIDE, image_numbers=numbers)
    folder = Path(args.output_dir or ".")
    server = RemoteServer(
        url=url,
        name=name,
        key=os.environ.get("OPENAI_API_KEY", ""),
        concurrency=concurrency,
        retries=retries,
        timeout=timeout,
    )
    with locked(folder):
        data = load_data(sections, args)
        if any(test.ranking is not None for test in data.tests.values()):
            raise ConfigError(
                field="data_args.ranking", expected="nothing with --api, which generates", found="a ranking"
            )
        for prefix, test in data.tests.items():
            score(server, test, convention, folder, prefix, resume=args.resume)


def generation_of(settings: Mapping[str, object]) -> dict[str, Any]:
    """The API's arguments for `data_args.gen_kwargs`; greedy decoding is temperature 0.

    Raises:
        ConfigError: names an argument that the API does not have.
    """
    for name, value in settings.items():
        greedy = name in ("do_sample", "num_beams") and value in (False, True, 1)
        if name not in SENT and not greedy:
            known = ", ".join((*SENT, "do_sample"))
            raise ConfigError(
                field=f"data_args.gen_kwargs.{name}", expected=f"with --api one of {known}", found=show(value)
            )
    sent = {SENT[name]: value for name, value in settings.items() if name in SENT and value is not None}
    return sent if settings.get("do_sample") else {**sent, "temperature": 0}


def score(
    server: RemoteServer, test: TestSet, convention: Convention, folder: Path, prefix: str, *, resume: bool
) -> Outcome:
    """Answer a test set, and write predictions, results and report as an evaluation of a loaded model does.

    Raises:
        RunError: of the server; the answers so far are kept.
        Interrupted: a signal came; likewise.
    """
    items = EvalItems(test.items)
    server = replace(server, generation=generation_of(test.generation), usage=dict.fromkeys(server.usage, 0))
    about: dict[str, Any] = {
        "model": {"api": server.url, "name": server.name},
        "data": of_data(items),
        "metric": to_json(test.metric_config),
        "codec": convention.name,
        "generation": to_json(server.generation),
    }
    records = resumable(folder, prefix, items, about) if resume else []
    kept = [read_answer_in(record["text"], items[index], index, convention) for index, record in enumerate(records)]
    kept_so_far = f"the answers so far are in {folder}; --resume goes on with them"
    with INTERRUPTS.held("waiting for the answers under way; those so far are kept"):
        found = _answers(server, items, convention, first=len(kept), description=prefix)
        written = write_predictions(found, folder, prefix, items, test.metric, about=about, kept=len(kept))
        try:
            predictions = [*kept, *written]
        except RunError as error:
            error.message = f"{error.message or ''}; {kept_so_far}".lstrip("; ")
            raise
    image_of = ImageIds()
    images = [image_of(items[prediction.index]) for prediction in predictions]
    result = outcome(test.metric, predictions, images)
    title = f"{server.name} at {server.url}"
    about["usage"] = server.usage
    write_results(folder, prefix, result, predictions, items, test.metric, about=title, provenance=about)
    print(summary(prefix, result, test.metric, folder / f"{prefix}_{REPORT}"))
    print("  " + ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in server.usage.items()))
    return result


def _answers(
    server: RemoteServer, items: ItemDataset, convention: Convention, *, first: int, description: str
) -> Iterator[Prediction]:
    """Of the items from the `first` on, in their order, several asked at once."""
    client = server.client()

    def ask(index: int) -> Prediction:
        item = items[index]
        return read_answer_in(
            server.answer(client, to_openai_messages(item, convention), item.key), item, index, convention
        )

    ahead = 4 * server.concurrency
    with (
        ThreadPoolExecutor(server.concurrency) as pool,
        tqdm(total=len(items), initial=first, desc=description, unit="item") as bar,
    ):
        waiting = [pool.submit(ask, index) for index in range(first, min(first + ahead, len(items)))]
        for index in range(first, len(items)):
            if INTERRUPTS.signum:
                pool.shutdown(cancel_futures=True)
                raise Interrupted(INTERRUPTS.signum, "the evaluation is not finished")
            try:
                yield waiting.pop(0).result()
            except RunError:
                pool.shutdown(cancel_futures=True)
                raise
            if index + ahead < len(items):
                waiting.append(pool.submit(ask, index + ahead))
            bar.update()


def read_answer_in(
    text: str, item: Item, index: int, convention: Convention, *, image: int | None = None
) -> Prediction:
    """As `Processor.read`."""
    answer = Prediction.of(item, index, text.strip())
    codec = codec_of_answer(item, convention, image)
    return with_time_spans(answer if codec is None else codec.read_into(answer), item, convention.codec)


def codec_of_answer(item: Item, convention: Convention, image: int | None = None) -> PixelCodec | None:
    """As `Processor.codec_of_answer`."""
    return _item_codec(item, convention).of_answer(image)


def _item_codec(item: Item, convention: Convention) -> ItemCodec:
    def on(image: int) -> PixelCodec:
        return convention.on(item.images[image].size, image=image)

    return ItemCodec(convention.codec, item, on, numbers=convention.image_numbers)


def to_openai_messages(item: Item, convention: Convention) -> list[dict[str, Any]]:
    """The question, with all rounds before it, as OpenAI's chat messages; images as PNG inside data URLs."""
    codec = _item_codec(item, convention)
    images, leads = iter(item.images), iter(codec.leads)
    roles = {"human": "user", "gpt": "assistant"}
    system = [] if item.system is None else [{"role": "system", "content": item.system}]
    return system + [
        {
            "role": roles[turn.role],
            "content": list(
                _content(written_turn(turn, codec.write, none_text(convention.codec), leads), images, convention)
            ),
        }
        for turn in item.prompt
    ]


def _content(
    pieces: Iterable[TextSpan], images: Iterator[ImageRef], convention: Convention
) -> Iterator[dict[str, object]]:
    """The parts of a turn: neighbouring texts are one."""
    words = ""
    for piece in pieces:
        if piece.text != IMAGE or piece.literal:
            words += piece.text
            continue
        if words.strip():
            yield {"type": "text", "text": words}
        words = ""
        yield {"type": "image_url", "image_url": {"url": _data_url(next(images), convention)}}
    if words.strip():
        yield {"type": "text", "text": words.strip("\n")}


def _data_url(ref: ImageRef, convention: Convention) -> str:
    if isinstance(ref, Video):
        raise ConfigError("--api sends images only, found a video")
    image = ref.open()
    if convention.codec.frame == "canvas":  # else the model's coordinates are those of the image alone
        image = lay(image, convention.placement(ref.size), BACKGROUND)
    return png_data_url(image)


def png_data_url(image: Image.Image) -> str:
    """The image as a URL that holds it."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode('ascii')}"
