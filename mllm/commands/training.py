"""`mllm train|eval|predict CONFIG`: the pipeline's entry point; `mllm predict --model DIR`: one question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from mllm.commands.model_options import Codec, Device, Dtype, Placement, Template, Type
from mllm.config.command_line import ConfigFile, ConfigOptions, Given, TrainingCommand

QUESTION = "One question to a model, without a config"
SERVER = "A model behind a server"
_READING = (
    *("output_dir", "use_cpu", "seed", "bf16", "fp16", "disable_tqdm"),
    *("per_device_eval_batch_size", "dataloader_num_workers"),
)


class TrainCommand(TrainingCommand):
    """Its help lists what most runs say."""

    shown = (
        *_READING,
        *("overwrite_output_dir", "resume_from_checkpoint", "do_eval", "do_predict"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps"),
        *("activation_checkpointing", "torch_compile", "learning_rate", "lr_scheduler_type", "warmup_steps", "optim"),
        *("weight_decay", "max_grad_norm", "logging_steps", "report_to", "run_name"),
        *("eval_strategy", "eval_steps", "save_strategy", "save_steps", "save_total_limit"),
        *("load_best_model_at_end", "metric_for_best_model"),
    )


class EvalCommand(TrainingCommand):
    """Its help lists what an evaluation reads."""

    shown = (*_READING, "resume", "prediction_loss_only", "predict_with_generate")


class PredictCommand(TrainingCommand):
    """Its help lists what a prediction reads."""

    shown = (*_READING, "resume", "num_samples")


def train(ctx: typer.Context, config: ConfigFile, cfg_options: ConfigOptions) -> None:
    """Train as the config says, then evaluate and predict if it sets do_eval and do_predict."""
    _start(config, cfg_options, {**ctx.obj, "do_train": True})


def evaluate(ctx: typer.Context, config: ConfigFile, cfg_options: ConfigOptions) -> None:
    """Compute loss and scores on data_args.validation."""
    _start(config, cfg_options, {**ctx.obj, "do_train": False, "do_eval": True, "do_predict": False})


def predict(
    ctx: typer.Context,
    cfg_options: ConfigOptions,
    image: Annotated[
        list[str],
        typer.Option(
            metavar="FILE ...",
            default_factory=list,
            show_default=False,
            help="Images of the question.",
            rich_help_panel=QUESTION,
        ),
    ],
    box: Annotated[
        list[str],
        typer.Option(
            metavar="X1,Y1,X2,Y2 ...",
            default_factory=list,
            show_default=False,
            help="Boxes in pixels, one for each <boxes>.",
            rich_help_panel=QUESTION,
        ),
    ],
    config: Annotated[str | None, typer.Argument(metavar="CONFIG.py", help="The config file.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of a trained model; with --api, the model's name on the server.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask --model NAME on an OpenAI-compatible server, http://host:8000/v1, instead of loading a model. "
            "Its API key is read from OPENAI_API_KEY.",
            rich_help_panel=SERVER,
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=512, help="Number of parallel requests.", rich_help_panel=SERVER)
    ] = 8,
    retries: Annotated[
        int,
        typer.Option(min=0, help="Number of retries when the server is full or fails.", rich_help_panel=SERVER),
    ] = 8,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.1, help="Time limit of one attempt.", rich_help_panel=SERVER),
    ] = 120.0,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The question; <image> marks the images, <boxes> the boxes.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Ask the question about each image in this folder and write one line per answer to --out.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="With --images: file for the answers. A file with answers is continued. Default: answers.jsonl.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    on_error: Annotated[
        Literal["raise", "skip"] | None,
        typer.Option(
            "--on_error",
            help="With --images: what to do about an image that cannot be read. Default: raise.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    answer_image: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of the image, from 0, that the answer is about. Default: the image of the box, else the "
            "first.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    draw: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the image with the answer's boxes and points to this file; a second image goes to FILE_2. "
            "With --images: a folder.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max_new_tokens", min=1, help="Default: 64.", rich_help_panel=QUESTION)
    ] = None,
    num_beams: Annotated[
        int | None, typer.Option("--num_beams", min=1, help="Default: 1.", rich_help_panel=QUESTION)
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    type: Type = None,
    codec: Codec = None,
    template: Template = None,
    placement: Placement = None,
) -> None:
    """Answer and score data_args.test and data_args.multitest, or answer one question.

    mllm predict CONFIG.py

    mllm predict CONFIG.py --api http://host:8000/v1 --model NAME

    mllm predict --model DIR --image FILE --prompt TEXT

    mllm predict --model DIR --images FOLDER --prompt TEXT --out answers.jsonl
    """
    asked = [
        *(("--prompt", "prompt", prompt), ("--image", "images", image)),
        *(("--box", "boxes", [_box(ctx, text) for text in box]), ("--answer-image", "answer_image", answer_image)),
        *(("--draw", "drawing", draw), ("--device", "device", device), ("--dtype", "dtype", dtype)),
        *(("--max_new_tokens", "max_new_tokens", max_new_tokens), ("--num_beams", "num_beams", num_beams)),
        *(("--type", "type", type), ("--codec", "codec", codec), ("--template", "template", template)),
        *(("--placement", "placement", placement), ("--images", "folder", images)),
        *(("--out", "out", out), ("--on_error", "on_error", on_error)),
    ]
    asked = [(flag, name, value) for flag, name, value in asked if value not in (None, [])]
    if api is not None:
        if config is None or model is None:
            ctx.fail("--api needs CONFIG.py and --model NAME too")
        if prompt is not None or image or images or box:
            ctx.fail("--api asks the questions of CONFIG.py: leave --prompt, --image, --images and --box out")
        unused = [flag for flag, name, _ in asked if name not in ("codec", "placement")]
        if unused:
            ctx.fail(f"{unused[0]}: has no effect with --api")
        from mllm.pipeline.remote import start

        # nothing is computed here, so the precision of the config needs no GPU
        flags = {**ctx.obj, "do_train": False, "do_eval": False, "do_predict": True, "use_cpu": True}
        given = Given(config=config, options=cfg_options, flags={**flags, "bf16": False, "fp16": False})
        server = {"url": api, "name": model, "concurrency": concurrency, "retries": retries, "timeout": timeout}
        return start(given, codec=codec, placement=placement, **server)
    for flag in ("concurrency", "retries", "timeout"):
        source = ctx.get_parameter_source(flag)
        if source is not None and source.name == "COMMANDLINE":
            ctx.fail(f"--{flag}: needs --api URL too")
    if model is None:
        if asked:
            ctx.fail(f"{asked[0][0]}: needs --model DIR too")
        if config is None:
            ctx.fail("expected CONFIG.py, or --model DIR and --prompt TEXT")
        return _start(config, cfg_options, {**ctx.obj, "do_train": False, "do_eval": False, "do_predict": True})
    if config is not None or cfg_options or ctx.obj:
        ctx.fail("--model DIR asks one question: it takes no CONFIG.py, no --cfg-options and no training argument")
    if prompt is None:
        ctx.fail("--model DIR needs --prompt TEXT too")
    arguments: dict[str, Any] = {name: value for _, name, value in asked}
    if images is None:
        if out is not None or on_error is not None:
            ctx.fail("--out and --on_error need --images FOLDER")
        from mllm.serve.ask import ask_folder  # imported when asked for: PyTorch and transformers take seconds to load

        return ask_folder(model, **arguments)
    if image or box or answer_image is not None:
        ctx.fail("--images asks about one image at a time: leave --image, --box and --answer-image out")
    from mllm.serve.folder import answer_folder

    settings = {"out": "answers.jsonl", "drawings": arguments.pop("drawing", None), **arguments}
    return answer_folder(model, images=settings.pop("folder"), **settings)


def _box(ctx: typer.Context, text: str) -> list[float]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        ctx.fail(f"--box: expected X1,Y1,X2,Y2, found {text!r:.80}")
    return values


def _start(config: str, options: list[str], flags: Mapping[str, object]) -> None:
    from mllm.pipeline.finetune import start

    start(Given(config=config, options=options, flags=flags))
