"""Options that say which model is loaded, and how: those of chat, predict, serve and web."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

MODEL = "Model"
"""The panel under which `--help` lists them."""

Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, ... Default: a GPU if there is one.", rich_help_panel=MODEL)
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16", "auto"] | None,
    typer.Option(help="Dtype of the weights; auto takes that of the folder.", rich_help_panel=MODEL),
]
Type = Annotated[
    str | None, typer.Option(help="Type of the model, if its folder does not name it.", rich_help_panel=MODEL)
]
Codec = Annotated[
    str | None, typer.Option(help="How the model writes boxes. Default: as it was trained.", rich_help_panel=MODEL)
]
Template = Annotated[
    str | None,
    typer.Option(
        help="How prompts are written; completion: as they are. Default: as it was trained.", rich_help_panel=MODEL
    ),
]
Placement = Annotated[
    Literal["pad", "crop", "squash"] | None,
    typer.Option(help="How images are put on its square. Default: as it was trained.", rich_help_panel=MODEL),
]
