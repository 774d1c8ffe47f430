"""`mllm model show CONFIG`: the modules of a model and the memory of a step; `mllm model check DIR`: its self-check."""

from __future__ import annotations

from typing import Annotated

import typer

from mllm.config.command_line import CONTEXT_SETTINGS, Command, CommandGroup, ConfigFile, ConfigOptions

app = typer.Typer(
    cls=CommandGroup,
    context_settings=CONTEXT_SETTINGS,
    help="Show a model's modules and memory, and check that it is read right.",
)


@app.command(cls=Command)
def show(
    config: ConfigFile,
    cfg_options: ConfigOptions,
    devices: Annotated[int, typer.Option(min=1, help="GPUs over which FSDP shards the model.")] = 4,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows per device. Default: per_device_train_batch_size.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help="Tokens per row. Default: data_args.max_length, else an image's + 256.")
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Size in pixels of the image in each row. Default: the image of data_args.train with the most tokens, "
            "or 640x480 if the data is not here.",
        ),
    ] = None,
) -> None:
    """Show the module tree, and the memory that a training step would take.

    The model is built without its weights: of folders only config.json, and the tokenizer where there is one, is read.
    """
    from mllm.commands.model.images import read_size
    from mllm.commands.model.show import show_config

    size = read_size(image_size)
    show_config(config, cfg_options, devices=devices, rows=batch_size, length=length, image_size=size)


@app.command(cls=Command)
def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of a vision language model of transformers.")],
    compute: Annotated[
        bool, typer.Option(help="Run the model too: features, batches, packed rows, shared images.")
    ] = True,
) -> None:
    """Run every self-check: do boxes land where they should, and what can the model do?

    Painted images go through the folder's own processor, prompts are compared with its own, and the model computes the
    same rows in several ways. Exit status 1 if a check fails. What passed is kept for later runs.
    """
    from mllm.commands.model.check import print_checks

    print_checks(folder, compute=compute)
