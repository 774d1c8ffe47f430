"""Errors as clients get them: OpenAI's shape, `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from mllm.errors import ConfigError, DataError, MllmError

logger = logging.getLogger(__name__)

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
KINDS = ("text", "image_url")
"""Kinds of parts, which pydantic puts into the place of an error."""


class Problem(Exception):
    """A request that is not answered, and why."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: float = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def to_dict(self) -> dict[str, object]:
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {"retry-after": str(max(1, math.ceil(self.retry_after)))} if self.retry_after else {}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(self.to_dict(), self.status, headers=headers)


def of_error(error: Exception) -> Problem:
    """What a client is told of an error: what a request got wrong, in full; of other errors a number for the log."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        return _of_validation(error)
    if isinstance(error, DataError | ConfigError):
        return Problem(400, error.reason, param=error.where or error.field or None)
    name = uuid.uuid4().hex[:12]
    logger.error("request failed, error %s", name, exc_info=error)
    if isinstance(error, MllmError):
        return Problem(500, f"the model failed: {error.reason} (error {name} in the server's log)", code="model_error")
    return Problem(500, f"the server failed: error {name} in its log", code="internal_error")


def _of_validation(error: ValidationError) -> Problem:
    first = error.errors(include_url=False, include_context=False)[0]
    param = field_path(first["loc"])
    if first["type"] == "extra_forbidden":
        return Problem(400, f"{param}: this server knows no such field", param=param, code="unknown_field")
    message = first["msg"].removeprefix("Value error, ")
    return Problem(400, f"{param}: {message}" if param else message, param=param or None)


def field_path(location: Sequence[int | str]) -> str:
    """`messages[0].content[1].image_url.url` of pydantic's location, which also names the kind of a part."""
    written = ""
    for number, step in enumerate(location):
        if isinstance(step, int):
            written += f"[{step}]"
        elif not (step in KINDS and isinstance(location[number - 1], int)):
            written += f".{step}" if written else step
    return written


def add_handlers(app: FastAPI) -> None:
    """Every error in OpenAI's shape, those of the framework too."""

    async def of_framework(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = {404: "there is no such page", 405: "this page takes another method"}.get(error.status_code)
        return Problem(error.status_code, message or str(error.detail)).response()

    async def of_others(_: Request, error: Exception) -> JSONResponse:
        return of_error(error).response()

    app.add_exception_handler(HTTPException, of_framework)
    for kind in (Problem, MllmError, ValidationError, Exception):
        app.add_exception_handler(kind, of_others)
