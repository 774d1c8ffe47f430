"""The web page: its files, the example images that it offers, and a preview of images that browsers do not show."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from base64 import b64encode
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse

from mllm.errors import ConfigError, DataError
from mllm.serve.api.app import check_key
from mllm.serve.api.chat import body_of
from mllm.serve.api.images import SentImage
from mllm.serve.api.problems import Problem
from mllm.serve.api.state import ServerState

STATIC = Path(__file__).with_name("static")
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"))
"""Suffixes of images that browsers show."""
QUESTIONS = 4
"""Most that are offered for an example."""
LINES = 1_000
"""So many of each annotation file are searched for questions."""
BYTES = "application/octet-stream"
SAFE = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""The page runs its own scripts alone, asks its own server alone, and is shown in no other page."""


def page_router(examples: Path | None) -> APIRouter:
    """The page at `/`, with what it needs beside the API.

    Args:
        examples: a folder with images to begin with, read when the server starts. Questions about them come from lines
            with `img_path` and `expression` or `question` in the `.jsonl` files of the folder and of the one above.

    Raises:
        ConfigError: the folder has no image that browsers show.
        DataError: a line of an annotation file is not JSON.
    """
    router = APIRouter()
    files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in TYPES}
    version = hashlib.sha256(b"".join(files.values())).hexdigest()[:16]
    index = (STATIC / "index.html").read_text(encoding="utf-8").replace("{version}", version)
    offered = {} if examples is None else example_images(examples)
    questions = {} if examples is None else example_questions(examples, frozenset(offered))

    @router.get("/")
    def page() -> Response:
        return Response(index, media_type="text/html", headers={**SAFE, "cache-control": "no-cache"})

    @router.get(f"/static/{version}/{{name}}")
    def static(name: str) -> Response:
        """The files of this version, under an address of its own, so that they may be kept."""
        if name not in files:
            raise Problem(404, "there is no such page")
        headers = {**SAFE, "cache-control": "public, max-age=31536000, immutable"}
        return Response(files[name], media_type=TYPES[Path(name).suffix], headers=headers)

    @router.get("/examples")
    def listed() -> list[dict[str, Any]]:
        return [{"name": name, "questions": questions.get(name, [])} for name in offered]

    @router.get("/examples/{name}")
    def example(name: str) -> Response:
        if name not in offered:
            raise Problem(404, "there is no such example")
        return FileResponse(offered[name], headers={**SAFE, "cache-control": "no-cache"})

    router.add_api_route("/preview", preview, methods=["POST"], dependencies=[Depends(check_key)])
    return router


async def preview(request: Request) -> Response:
    """The image of the body as PNG, upright: for files that browsers do not show, under the bounds of the API.

    Raises:
        Problem: no image, or one that the server would not take in a question.
    """
    server: ServerState = request.app.state.server
    with server.admitted():
        sent = b64encode(await body_of(request, BYTES)).decode()
        image = await server.images.read(f"data:{BYTES};base64,{sent}", "the file")
        png = await asyncio.to_thread(_png, image)
    return Response(png, media_type="image/png", headers=SAFE)


def _png(image: SentImage) -> bytes:
    out = io.BytesIO()
    image.open().save(out, "PNG", compress_level=1)
    return out.getvalue()


def example_images(folder: Path) -> dict[str, Path]:
    """Name -> file of the images in a folder; none outside it, wherever links lead."""
    root = folder.resolve()
    files = [path for path in sorted(root.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    found = {path.name: path for path in files if path.resolve().is_relative_to(root)}
    if not found:
        expected = f"a folder with images ({', '.join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))})"
        raise ConfigError(where="--examples", expected=expected, found=str(folder))
    return found


def example_questions(folder: Path, names: frozenset[str]) -> dict[str, list[str]]:
    """Name -> questions about an image, from the annotation lines beside it."""
    found: dict[str, list[str]] = {}
    root = folder.resolve()
    for path in sorted((*root.glob("*.jsonl"), *root.parent.glob("*.jsonl"))):
        for line in _lines(path):
            name = Path(str(line.get("img_path", ""))).name
            question = line.get("expression", line.get("question"))
            known = found.setdefault(name, [])
            if name in names and isinstance(question, str) and question not in known and len(known) < QUESTIONS:
                known.append(question)
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(islice(file, LINES), start=1):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(where=f"{path}:{number}", expected="a line of JSON", found=repr(line[:60])) from error
            if isinstance(record, dict):
                yield record
