"""`mllm checkpoint inspect|convert|export|merge|diff`: what checkpoints hold, and other layouts, in and out."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mllm.boundary import reported
from mllm.config.command_line import CONTEXT_SETTINGS, Command, CommandGroup

PATHS = "A folder, a file, or several files in order: a.pt,b.pt."

Source = Annotated[str, typer.Argument(metavar="PATH", help=PATHS)]
Out = Annotated[str, typer.Argument(metavar="OUT", help="A new folder.")]
Dtype = Literal["float32", "bfloat16", "float16"]
AllDtype = Annotated[Dtype | None, typer.Option(help="Dtype of all weights. Default: unchanged.")]
ShardSize = Annotated[str, typer.Option(metavar="SIZE", help="Maximum size of a file.")]

app = typer.Typer(
    cls=CommandGroup, context_settings=CONTEXT_SETTINGS, help="Inspect, convert, export, merge and compare checkpoints."
)


@app.command(cls=Command)
def inspect(path: Source) -> None:
    """Show what a checkpoint is, what it holds, and what has to come from elsewhere."""
    from mllm.commands.checkpoint import operations

    operations.inspect(path)


@app.command(cls=Command)
def convert(
    path: Source,
    out: Out,
    base: Annotated[
        str | None, typer.Option(metavar="DIR", help="The language model or LLaVA that the checkpoint builds on.")
    ] = None,
    vision_tower: Annotated[
        str | None, typer.Option(metavar="DIR", help="The vision encoder, if the checkpoint only names one.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="DIR", help="Default: the checkpoint's own, else that of its base.")
    ] = None,
    tuning_config: Annotated[
        str | None, typer.Option(metavar="JSON", help="Instruct-Flamingo's tuning config; it holds lora_alpha.")
    ] = None,
    dtype: AllDtype = None,
    max_shard_size: ShardSize = "5GB",
) -> None:
    """Write a checkpoint of any known layout as a folder for model_name_or_path."""
    from mllm.commands.checkpoint import operations

    operations.convert(
        path,
        out,
        base=base,
        vision_tower=vision_tower,
        tokenizer=tokenizer,
        tuning_config=tuning_config,
        dtype=dtype,
        max_shard_size=max_shard_size,
    )


@app.command(cls=Command)
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder that this toolkit saved.")],
    out: Out,
    format: Annotated[
        Literal["transformers-llava", "openflamingo", "otter", "adapter"], typer.Option(help="Layout to write.")
    ] = "transformers-llava",
    whole: Annotated[
        bool, typer.Option("--whole", help="With openflamingo: write the language model and the vision encoder too.")
    ] = False,
    original_vocabulary: Annotated[
        bool, typer.Option("--original-vocabulary", help="Leave out added tokens that the layout does not need.")
    ] = False,
    dtype: Annotated[Dtype | None, typer.Option(help="Default: as the model is stored.")] = None,
) -> None:
    """Write a model, or its adapters alone, for other software; adapters are merged."""
    from mllm.commands.checkpoint import operations

    operations.export(model, out, layout=format, whole=whole, original_vocabulary=original_vocabulary, dtype=dtype)


@app.command(cls=Command)
def merge(
    adapters: Annotated[str, typer.Argument(metavar="ADAPTERS", help="A folder of adapters that this toolkit saved.")],
    out: Out,
    dtype: AllDtype = None,
    max_shard_size: ShardSize = "5GB",
) -> None:
    """Add trained adapters to their base, and write the whole model."""
    from mllm.commands.checkpoint import operations

    operations.merge(adapters, out, dtype=dtype, max_shard_size=max_shard_size)


@app.command(cls=Command)
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=PATHS)],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B", help="The other checkpoint. If its layout differs, both are compared under mllm's names."
        ),
    ],
) -> int:
    """Compare two checkpoints tensor by tensor; exit status 1 if they differ, 2 for an error."""

    def compare() -> int:
        from mllm.commands.checkpoint import operations

        return operations.diff(a, b)

    return reported(compare, failed=2)
