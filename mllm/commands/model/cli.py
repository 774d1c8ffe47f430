"""`mllm model show CONFIG`: the tree of modules, and the memory that a training step would take."""

from __future__ import annotations

from typing import Annotated

import typer

from mllm.config.command_line import SETTINGS, Command, ConfigFile, ConfigOptions, Group

app = typer.Typer(
    cls=Group, context_settings=SETTINGS, help="What a config's model is made of, and the memory it takes."
)


@app.callback()
def about() -> None:
    """Keeps `show` a command of its own while it is the only one."""


@app.command(cls=Command)
def show(
    config: ConfigFile,
    cfg_options: ConfigOptions,
    devices: Annotated[int, typer.Option(min=1, help="Over which FSDP shards everything.")] = 4,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows a device. Default: per_device_train_batch_size.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a row. Default: data_args.max_length, else an image's + 256.")
    ] = None,
) -> None:
    """The tree of modules, and the memory that a training step would take.

    The model is built without its weights: of folders only config.json, and the tokenizer where there is one, is read.
    """
    from mllm.commands.model.show import show_config

    show_config(config, cfg_options, devices=devices, rows=batch_size, length=length)
