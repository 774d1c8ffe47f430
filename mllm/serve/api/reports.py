"""`POST /v1/reports`: a bad answer, kept in the dataset's format so that it can be trained on."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from mllm.images import ImageRef
from mllm.serve.api.chat import body_of
from mllm.serve.api.conversation import answer_of, check_regions, messages_of
from mllm.serve.api.images import SentImage
from mllm.serve.api.problems import Problem
from mllm.serve.api.schema import ChatRequest, InputRegion, Strict
from mllm.serve.api.state import ServerState
from mllm.serve.question import record_of, to_item
from mllm.types import Item

router = APIRouter()
ReportText = Annotated[str, Field(max_length=20_000)]
Said = Annotated[ReportText, Field(pattern=r"\S")]


class Right(Strict):
    """The answer that would have been right."""

    text: Said
    regions: list[InputRegion] = Field(default_factory=list)
    """What its `<boxes>` and `<points>` stand for, in order."""


class Report(Strict):
    request: ChatRequest
    """The question, as it was asked."""
    answer: ReportText
    """What the model said."""
    right: Right | None = None
    """Without it the record ends with the question, and goes to a file of its own, to be completed."""
    comment: ReportText = ""


@router.post("/v1/reports")
async def report(request: Request) -> dict[str, Any]:
    """Append the question to the server's file of reports, with its images beside it; `mllm data check` reads it."""
    server: ServerState = request.app.state.server
    if server.reports is None:
        raise Problem(403, "this server keeps no reports (--reports FILE)", code="no_reports")
    with server.admitted():
        body = Report.model_validate_json(await body_of(request))
        server.model(body.request.model)
        messages = await messages_of(body.request, server.images)
        if body.right is not None:
            shown: list[Any] = [image for message in messages for image in message.images]
            check_regions(body.right.regions, [image.size for image in shown], "right.regions")
            messages.append(answer_of(body.right.text, body.right.regions))
        item = to_item(messages, key="right", answered=body.right is not None)
        async with server.writing:
            number = await asyncio.to_thread(_append, server, server.reports, item, body)
    return {"object": "report", "number": number}


def _append(server: ServerState, path: Path, item: Item, body: Report) -> int:
    """Write the images that are new, then the line; its number in the file."""
    folder = images_folder(path)
    sources: dict[ImageRef, str] = {ref: f"{ref.digest[:32]}.png" for ref in item.images if isinstance(ref, SentImage)}
    record = {**record_of(item, sources), "group": {"bad_answer": body.answer, "comment": body.comment}}
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        files = [*folder.iterdir(), *(file for file in (path, unanswered(path)) if file.exists())]
        used = sum(file.stat().st_size for file in files)
        if used > server.limits.reports_mb * 1e6:
            raise Problem(507, "the server's file of reports is full (reports_mb)", code="reports_full")
        for ref, name in sources.items():
            if not (folder / name).exists():
                part = folder / f"{name}.part"
                ref.open().save(part, "PNG")
                part.replace(folder / name)
        if body.right is None:
            path = unanswered(path)
        with path.open("a+b") as file:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.seek(0)
            return sum(1 for _ in file)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other worker writes there meanwhile."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def unanswered(path: Path) -> Path:
    """Where the questions go whose right answer nobody gave."""
    return path.with_name(f"{path.stem}_unanswered{path.suffix}")


def images_folder(path: Path) -> Path:
    """Where the images of a file of reports lie: the `image_folder` of its dataset."""
    return path.with_name(f"{path.stem}_images")
