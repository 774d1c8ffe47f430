"""`mllm serve DIR ...` answers over HTTP; `mllm web DIR ...` does too, with a page to ask on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mllm.commands.model_options import MODEL, Codec, Device, Dtype, Placement, Template, Type
from mllm.errors import ConfigError
from mllm.files import check_file
from mllm.serve.api.limits import Limits

ACCESS, LIMITS = "Who may ask, and for what", "Limits"
API_KEY_VARIABLE = "MLLM_API_KEY"
BOUNDS = Limits()

SERVE = """Answer over HTTP, in OpenAI's API, with boxes and points in pixels: see docs/serve.md.

mllm serve outputs/demo_scenes

mllm serve a=outputs/run1 b=outputs/run2 --port 8001

mllm serve NAME --backend http://host:8000/v1 --codec qwen25_vl
"""
WEB = """Open a page on which people draw boxes, ask, and see the answer on the image. It takes the options of `serve`.

mllm web outputs/demo_scenes --examples examples/shapes/images
"""


def serve(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DIR ...",
            help="Folders of models, each served under its folder's name, or as NAME=DIR. With --backend the names "
            "of its models; default: all.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. 0.0.0.0 is every address of this machine: set an API key then.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes, each with the models and a GPU.")] = 1,
    device: Device = None,
    dtype: Dtype = None,
    type: Type = None,
    codec: Codec = None,
    template: Template = None,
    placement: Placement = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL ...",
            help="Pass requests on to these servers (http://host:8000/v1), each to the least busy one. Any engine with "
            "OpenAI's API will do (vLLM, SGLang, ...), with --codec. The API key is read from OPENAI_API_KEY.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api_key_file",
            metavar="FILE",
            help=f"Bearer token that clients must send. Default: ${API_KEY_VARIABLE}; without it, no key is needed.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors_origin",
            metavar="URL ...",
            help="Origins of web pages that may send requests.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed_host",
            metavar="NAME ...",
            help="Host names that requests may use. Default: local names on loopback, else any.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    allow_urls: Annotated[
        bool,
        typer.Option("--allow_urls", help="Fetch images from public http(s) addresses.", rich_help_panel=ACCESS),
    ] = False,
    image_root: Annotated[
        Path | None,
        typer.Option(
            "--image_root",
            metavar="FOLDER",
            help="Folder whose images clients of the Instruct-Flamingo API may name.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    reports: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Write answers that users report as bad to this file. Default with web: bad_answers.jsonl.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With web: images that the page offers.", rich_help_panel=ACCESS),
    ] = None,
    max_rows: Annotated[
        int, typer.Option("--max_rows", min=1, help="Maximum answers generated at once.", rich_help_panel=LIMITS)
    ] = BOUNDS.max_rows,
    max_waiting: Annotated[
        int,
        typer.Option(
            "--max_waiting", min=1, help="Maximum answers that wait; more are refused.", rich_help_panel=LIMITS
        ),
    ] = BOUNDS.max_waiting,
    max_new_tokens: Annotated[
        int, typer.Option("--max_new_tokens", min=1, help="Maximum tokens of an answer.", rich_help_panel=LIMITS)
    ] = BOUNDS.max_new_tokens,
    max_prompt_tokens: Annotated[
        int,
        typer.Option(
            "--max_prompt_tokens", min=1, help="Maximum tokens of a prompt, images included.", rich_help_panel=LIMITS
        ),
    ] = BOUNDS.max_prompt_tokens,
    max_choices: Annotated[
        int, typer.Option("--max_choices", min=1, help="Maximum n of a request.", rich_help_panel=LIMITS)
    ] = BOUNDS.max_choices,
    max_images: Annotated[
        int, typer.Option("--max_images", min=1, help="Maximum images of a conversation.", rich_help_panel=LIMITS)
    ] = BOUNDS.max_images,
    max_pixels: Annotated[
        int, typer.Option("--max_pixels", min=1, help="Maximum width x height of an image.", rich_help_panel=LIMITS)
    ] = BOUNDS.max_pixels,
    max_body_mb: Annotated[
        float, typer.Option("--max_body_mb", min=0.001, help="Maximum size of a request.", rich_help_panel=LIMITS)
    ] = BOUNDS.max_body_mb,
    max_batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--max_batch_tokens",
            min=1,
            help="Maximum tokens of all running answers with their prompts; bounds memory. Default: no limit.",
            rich_help_panel=LIMITS,
        ),
    ] = BOUNDS.max_batch_tokens,
    prefix_cache_gb: Annotated[
        float,
        typer.Option(
            "--prefix_cache_gb",
            min=0.000001,
            help="Memory per model for encoded images that are kept for further questions.",
            rich_help_panel=LIMITS,
        ),
    ] = BOUNDS.prefix_cache_gb,
    timeout_s: Annotated[
        float, typer.Option("--timeout_s", min=0.1, help="Maximum seconds of a request.", rich_help_panel=LIMITS)
    ] = BOUNDS.timeout_s,
    drain_s: Annotated[
        int,
        typer.Option(
            "--drain_s", min=0, help="Seconds that running requests get to finish on shutdown.", rich_help_panel=LIMITS
        ),
    ] = BOUNDS.drain_s,
) -> None:
    from mllm.serve.api.server import Settings, run_server

    web = ctx.info_name == "web"
    if not models and not backend:
        ctx.fail("expected DIR, the folder of a model, or --backend URL")
    if examples is not None and not web:
        ctx.fail("--examples: only `mllm web` has a page")
    model_args: dict[str, Any] = {}
    if not backend:
        given = {"dtype": dtype, "type": type, "codec": codec, "template": template, "placement": placement}
        model_args = {name: value for name, value in given.items() if value is not None}
    else:
        for flag, value in (("--device", device), ("--dtype", dtype), ("--type", type), ("--template", template)):
            if value is not None:
                ctx.fail(f"{flag}: the models of a backend are not loaded here")
    run_server(
        Settings(
            models=_named(models or [], folders=not backend),
            model_args=model_args,
            device=device,
            backends=tuple(backend or ()),
            codec=codec,
            placement=placement,
            host=host,
            port=port,
            workers=workers,
            key=_key(api_key_file),
            origins=tuple(cors_origin or ()),
            hosts=tuple(allowed_host or ()),
            allow_urls=allow_urls,
            image_root=image_root,
            reports=Path("bad_answers.jsonl") if reports is None and web else reports,
            web=web,
            examples=examples,
            limits=Limits(
                max_rows=max_rows,
                max_waiting=max_waiting,
                max_new_tokens=max_new_tokens,
                max_prompt_tokens=max_prompt_tokens,
                max_choices=max_choices,
                max_images=max_images,
                max_pixels=max_pixels,
                max_body_mb=max_body_mb,
                max_batch_tokens=max_batch_tokens,
                prefix_cache_gb=prefix_cache_gb,
                timeout_s=timeout_s,
                drain_s=drain_s,
            ),
        )
    )


def _named(given: Sequence[str], *, folders: bool) -> dict[str, str]:
    """Name -> folder.

    Raises:
        ConfigError: there is no such folder, or two have the same name.
    """
    found: dict[str, str] = {}
    for word in given:
        name, equals, folder = word.partition("=")
        if not folders:
            name, folder = word, word
        elif not equals or Path(word).exists():
            name, folder = Path(word).resolve().name, word
        if folders and not Path(folder).exists():
            raise ConfigError(where=word, expected="the folder of a trained model", found="no such folder")
        if name in found:
            raise ConfigError(where=word, expected="another name, as NAME=DIR", found=f"a second {name!r}")
        found[name] = folder
    return found


def _key(path: Path | None) -> str:
    if path is None:
        return os.environ.get(API_KEY_VARIABLE, "")
    try:
        check_file(path, ConfigError)
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError, ConfigError) as error:
        raise ConfigError(where="--api_key_file", expected="a readable text file", found=str(path)) from error
    if not key:
        raise ConfigError(where="--api_key_file", expected="a key", found=f"an empty file {path}")
    return key
