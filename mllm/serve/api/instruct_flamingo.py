"""`POST /clever_flamingo`: the request of Instruct-Flamingo's server, for clients that were written for it.

    {"content_lst": {"prompt": "...", "imgpaths": [...], "args": {...}}, "typ": ...} -> {"result": {"response": [...]}}

Paths are read below the server's `image_root` alone. Source: github.com/ChenDelong1999/instruct-flamingo.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from mllm.errors import ImageError
from mllm.images.decode import decode
from mllm.images.settings import ImageSettings
from mllm.serve.api.chat import RunningChoices, body_of, prepared, unless_gone
from mllm.serve.api.limits import Limits
from mllm.serve.api.problems import Problem
from mllm.serve.api.schema import Strict, check_most, seed_of
from mllm.serve.api.served import End
from mllm.serve.api.state import ServerState
from mllm.serve.question import Message
from mllm.serve.sampling import Sampling

router = APIRouter()


class Arguments(Strict):
    """Its generation arguments; of beams and penalties only those are taken that change nothing."""

    max_new_token: Annotated[int, Field(ge=1)] = 512
    do_sample: bool = False
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    num_beams: Literal[1] = 1
    length_penalty: float = 1.0  # it weighs beams
    no_repeat_ngram_size: Literal[0] = 0

    def sampling(self, limits: Limits) -> Sampling:
        """
        Raises:
            Problem: more tokens than the server allows.
        """
        check_most("max_new_token", self.max_new_token, limits.max_new_tokens)
        sampled = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p} if self.do_sample else {}
        return Sampling(max_new_tokens=self.max_new_token, seed=seed_of(None), **sampled)


class Content(Strict):
    prompt: str
    imgpaths: list[str] = Field(default_factory=list)
    args: Arguments = Field(default_factory=Arguments)


class OldRequest(Strict):
    content_lst: Content
    typ: object = None


@router.post("/clever_flamingo")
async def clever_flamingo(request: Request) -> Response:
    server: ServerState = request.app.state.server
    deadline = server.deadline()
    with ExitStack() as stack:
        stack.enter_context(server.admitted())
        model = next(iter(server.models.values()))
        async with server.in_time(deadline):
            content = OldRequest.model_validate_json(await body_of(request)).content_lst
            sampling = content.args.sampling(server.limits)
            message = await asyncio.to_thread(_message, server, content)
            question = await prepared(server, model, [message])
        answers = RunningChoices(server, model, question, [sampling], deadline, logprobs=False)
        stack.callback(answers.cancel)
        answers.start()
        return await unless_gone(request, _response(answers))


async def _response(answers: RunningChoices) -> Response:
    said = [found.text async for _, found in answers.events() if isinstance(found, End)]
    return JSONResponse({"result": {"response": said}})


def _message(server: ServerState, content: Content) -> Message:
    if len(content.imgpaths) > server.limits.max_images:
        raise Problem(
            400,
            f"imgpaths: expected at most {server.limits.max_images} images, found {len(content.imgpaths)}",
            param="imgpaths",
        )
    images = tuple(_image(server, path, f"imgpaths[{number}]") for number, path in enumerate(content.imgpaths))
    return Message(role="user", text=content.prompt, images=images)


def _image(server: ServerState, path: str, place: str) -> Any:
    """The image at a path below the root; links are followed before it is looked where they lead."""
    if server.image_root is None:
        raise Problem(400, f"{place}: this server reads no images from its disk (--image_root)", param=place)
    root = server.image_root.resolve()
    outside = Problem(400, f"{place}: expected an image below the server's image_root", param=place)
    try:
        found = (root / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        raise outside from None
    if not found.is_relative_to(root) or not found.is_file():
        raise outside
    try:
        return decode(str(found), Path(path).name, ImageSettings(max_pixels=server.limits.max_pixels))
    except ImageError as error:
        raise Problem(400, f"{place}: {error.message or error.reason}", param=place, code="invalid_image") from error
