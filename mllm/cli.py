"""The `mllm` command: train, evaluate and predict, and look at data, checkpoints and models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mllm.boundary import reported
from mllm.commands.catalogue import list_kinds
from mllm.commands.chat.cli import chat
from mllm.commands.checkpoint.cli import app as checkpoint
from mllm.commands.compare.cli import compare
from mllm.commands.data.cli import app as data
from mllm.commands.init.cli import init
from mllm.commands.model.cli import app as model
from mllm.commands.regions.cli import app as regions
from mllm.commands.score.cli import score
from mllm.commands.serve.cli import SERVE, WEB, serve
from mllm.commands.training import EvalCommand, PredictCommand, TrainCommand, evaluate, predict, train
from mllm.compat.notes import draw_no_bars_into_files
from mllm.config.command_line import CONTEXT_SETTINGS, Command, CommandGroup, run_command

START, RUNS, LOOKS = "Start", "Train, evaluate, compare", "Data, checkpoints, models"
TALK = "Talk to a model"

app = typer.Typer(cls=CommandGroup, add_completion=False, context_settings=CONTEXT_SETTINGS)
app.command(cls=Command, rich_help_panel=START)(init)
app.command("list", cls=Command, rich_help_panel=START)(list_kinds)
app.command(cls=TrainCommand, rich_help_panel=RUNS)(train)
app.command("eval", cls=EvalCommand, rich_help_panel=RUNS)(evaluate)
app.command(cls=PredictCommand, rich_help_panel=RUNS)(predict)
app.command(cls=Command, rich_help_panel=RUNS)(chat)
app.command(cls=Command, rich_help_panel=RUNS)(score)
app.command(cls=Command, rich_help_panel=RUNS)(compare)
app.command(cls=Command, rich_help_panel=TALK, help=SERVE)(serve)
app.command("web", cls=Command, rich_help_panel=TALK, help=WEB)(serve)
app.add_typer(data, name="data", rich_help_panel=LOOKS)
app.add_typer(checkpoint, name="checkpoint", rich_help_panel=LOOKS)
app.add_typer(model, name="model", rich_help_panel=LOOKS)
app.add_typer(regions, name="regions", rich_help_panel=LOOKS)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # loads the parsers of e-mail, which no other command needs

        print(f"mllm {version('mllm')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Train, evaluate and inspect multimodal language models that point: boxes and points as first-class data.

    On several processes or GPUs: accelerate launch mllm/pipeline/finetune.py CONFIG.py OPTIONS
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 for an error; 2 for a wrong command line; 128 + n where signal n ended the run."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        run_command(app, ["--help"], "mllm")
        return 2
    draw_no_bars_into_files()
    return reported(lambda: run_command(app, words, "mllm"))


if __name__ == "__main__":
    sys.exit(main())
