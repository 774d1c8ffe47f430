"""`mllm chat DIR`: a conversation with a model in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mllm.commands.model_options import Codec, Device, Dtype, Placement, Template, Type
from mllm.errors import ConfigError

ANSWERS = "Answers"


def chat(
    path: Annotated[str, typer.Argument(metavar="DIR", help="Folder of a model, or a CONFIG.py.", show_default=False)],
    image: Annotated[
        list[str],
        typer.Option(
            metavar="FILE ...",
            default_factory=list,
            show_default=False,
            help="Images of the first question: files or URLs.",
        ),
    ],
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A system message in place of the template's own.")
    ] = None,
    conversation: Annotated[
        str | None, typer.Option(metavar="FILE", help="Go on with a conversation that /save wrote.")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write answers with boxes or points here, drawn on their images. Default: they are shown in terminals "
            "that can (kitty, Ghostty, iTerm2, WezTerm); in others a temporary folder.",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max_new_tokens", min=1, help="Maximum tokens of an answer.", rich_help_panel=ANSWERS)
    ] = 256,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0, help="Sample at this temperature. Default: always the likeliest token.", rich_help_panel=ANSWERS
        ),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option("--top_p", min=0, max=1, help="With --temperature.", rich_help_panel=ANSWERS)
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top_k", min=0, help="With --temperature.", rich_help_panel=ANSWERS)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampled answers.", rich_help_panel=ANSWERS)] = 0,
    repetition_penalty: Annotated[
        float | None, typer.Option("--repetition_penalty", help="Above 1: fewer repetitions.", rich_help_panel=ANSWERS)
    ] = None,
    num_beams: Annotated[
        int | None, typer.Option("--num_beams", min=1, help="Default: 1.", rich_help_panel=ANSWERS)
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    type: Type = None,
    codec: Codec = None,
    template: Template = None,
    placement: Placement = None,
) -> None:
    """Chat with a model in the terminal. Lines that begin with / are commands; /help lists them.

    mllm chat DIR --image photo.jpg

    echo "Where is the dog?" | mllm chat DIR --image photo.jpg
    """
    from rich.console import Console

    from mllm.commands.chat.terminal import TerminalChat, typed_lines
    from mllm.serve.chat_model import load
    from mllm.serve.generation import read_generation

    if system is not None and conversation is not None:
        raise ConfigError(where="--system", expected="no --conversation, which has its own beginning", found="both")
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature != 0 else {}
    generation: dict[str, Any] = {
        **{"max_new_tokens": max_new_tokens, "seed": seed, "repetition_penalty": repetition_penalty},
        **{"num_beams": num_beams, "do_sample": True if temperature else None},
        **sampling,
    }
    read_generation(generation)  # a wrong setting is said before the model is loaded
    console = Console(highlight=False)
    live = sys.stdin.isatty() and console.is_terminal
    named: dict[str, Any] = {"type": type, "codec": codec, "template": template, "placement": placement}
    model = load(path, device=device, dtype=dtype, **named)
    talks = TerminalChat(
        model,
        console,
        live=live,
        start=lambda: model.conversation(system=system),
        generation=generation,
        drawings=draw,
    )
    if conversation is not None:
        talks.talk = model.conversation(conversation)
    for source in image:
        talks.add_image(source)
    if live:
        console.print("/help lists the commands, Ctrl-D ends.", style="dim")
    talks.run(typed_lines(talks) if live else iter(sys.stdin))
