"""Command lines, on top of typer: options that take several words, either spelling of a name, errors of one line.

`TrainingCommand` is a command with a config file and an option for each training argument.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command, get_command_name
from typer.models import CommandInfo

from mllm.config import arguments, flags
from mllm.config.honoured import GROUPS
from mllm.config.sections import DATA_ARGS, SECTIONS
from mllm.config.training_fields import TrainingField, training_fields
from mllm.errors import UsageError, nearest, printable

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}
IS_VALUE = re.compile(r"(?!-)|-$|-\.?\d|.* ", re.DOTALL)
"""How a word begins that is a value, not an option: without a dash, as a negative number, or it holds a space."""
TEXTS = frozenset({"prompt", "system"})
"""Options that may be empty; training arguments, which are hidden, have checks of their own."""
LONGEST = 400
"""Characters of an error that are shown."""
ALL_FLAGS = frozenset(name for names in GROUPS.values() for name in names)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG.py", help="The config file.", show_default=False)]
ConfigOptions = Annotated[
    list[str],
    typer.Option(
        "--cfg-options",
        metavar="KEY=VALUE ...",
        default_factory=list,
        show_default=False,
        help="Override single values: data_args.train.type=X model_args.sizes.0=336. A text with commas, spaces in a "
        "list, or digits meant as text need quotes: key='\"a, b\"'.",
    ),
]


class Command(TyperCommand):
    """A command whose list options take several words, `--split train test`, and whose errors name near options.

    `--cfg-options` and `--cfg_options` are the same option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._with_equals(ctx, args)))

    def _with_equals(self, ctx: typer.Context, args: Sequence[str]) -> Iterator[str]:
        """The words with every option as `--name=value`, or as `--name` where it takes none."""
        given = [one for one in self.get_params(ctx) if isinstance(one, TyperOption)]
        options = {name: one for one in given for name in (*one.opts, *one.secondary_opts)}  # --compute, --no-compute
        spelled = {name.replace("_", "-"): name for name in options}
        words = deque(args)
        while words:
            word = words.popleft()
            if word == "--":
                yield from (word, *words)
                return
            if not word.startswith("--"):
                yield word
                continue
            flag, equals, value = word.partition("=")
            name = spelled.get(flag.replace("_", "-"))
            if name is None:
                _fail(ctx, f"unknown flag {flag}; {self.hint(flag, options)}")
            if options[name].is_flag:
                if equals:
                    _fail(ctx, f"{name} takes no value, found {value!r}")
                yield name
                continue
            values = [value] if equals else self._values(options[name], words)
            if not values:
                found = f", found {words[0]!r:.80}" if words else ""
                _fail(ctx, f"{name}: expected {options[name].metavar or 'a value'}{found}")
            if "" in values and options[name].name not in TEXTS and not options[name].hidden:
                _fail(ctx, f"{name}: expected {options[name].metavar or 'a value'}, found ''")
            yield from (f"{name}={value}" for value in values)

    def _values(self, option: TyperOption, words: deque[str]) -> list[str]:
        """The values of an option, taken from the words behind it."""
        values: list[str] = []
        while words and _is_value(words[0], option) and (option.multiple or not values):
            values.append(words.popleft())
        return values

    def hint(self, flag: str, options: Mapping[str, object]) -> str:
        """What the writer of an unknown option may have meant."""
        return nearest(flag, options)


class CommandGroup(TyperGroup):
    """A command of commands.

    Its `--help` is False where it is not given: typer loads pydantic to convert any other default, a tenth of a second
    that each command of the group would wait for.
    """

    def get_help_option(self, ctx: Any) -> TyperOption | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option


def _is_value(word: str, option: TyperOption) -> bool:
    """Whether the word is a value of the option; behind one that takes several, a config file is none."""
    if option.name == "cfg_options" and "=" not in word:
        return False
    is_config = option.multiple and word.endswith(".py") and "=" not in word
    return bool(IS_VALUE.match(word)) and not is_config


def _fail(ctx: typer.Context, message: str) -> NoReturn:
    ctx.fail(message)


class TrainingCommand(Command):
    """A command that takes every training argument as an option; `--help` lists those in `shown`, `--help-all` all.

    The arguments that were given are in `ctx.obj`, as a config would hold them.
    """

    shown: Sequence[str] = ()

    def get_params(self, ctx: Any) -> list[Any]:
        return [*super().get_params(ctx), *self._training_options]

    @cached_property
    def _training_options(self) -> list[TyperOption]:
        """Made when this command is asked for: reading the arguments from their source takes a while."""
        parameters = [_parameter("help_all", bool, _HELP_ALL)]
        for name, field in training_fields().items():
            kind = list[str] | None if flags.takes_many(field) else str | None
            parameters.append(_parameter(name, kind, typer.Option(f"--{name}", hidden=True)))  # in panels of our own

        def options(**given: object) -> None: ...

        options.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        app = typer.Typer(add_completion=False)
        app.command()(options)
        return [one for one in get_command(app).params if isinstance(one, TyperOption)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        off = {
            f"--no-{name.replace('_', '-')}": f"--{name}=false"
            for name, field in training_fields().items()
            if field.type is bool and field.default is True
        }
        rest = super().parse_args(ctx, [off.get(word.replace("_", "-"), word) for word in args])
        try:
            ctx.obj = flags.flag_values({name: ctx.params.pop(name) for name in training_fields()})
        except UsageError as error:
            _fail(ctx, str(error))
        return rest

    def _values(self, option: TyperOption, words: deque[str]) -> list[str]:
        field = training_fields().get(option.name)
        return super()._values(option, words) or (["true"] if field and flags.is_switch(field) else [])

    def hint(self, flag: str, options: Mapping[str, object]) -> str:
        name = flag.removeprefix("--").replace("-", "_")
        return arguments.hint(name) if name in arguments.RENAMED else super().hint(flag, options)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, the arguments in `shown` among it."""
        super().format_help(ctx, formatter)
        self._print_panels(self.shown)

    def format_whole_help(self, ctx: typer.Context) -> None:
        """Print the help with all training arguments that a run honours."""
        super().format_help(ctx, ctx.make_formatter())
        self._print_panels(ALL_FLAGS)

    def _print_panels(self, names: Container[str]) -> None:
        console = Console()
        fields = training_fields()
        for title, group in GROUPS.items():
            rows = [(f"--{name}", _about(fields[name])) for name in group if name in names]
            if rows:
                console.print(_panel(title, rows))
        rows = [*SECTIONS.items(), *((f"  data_args.{name}", about) for name, about in DATA_ARGS.items())]
        console.print(_panel("What CONFIG.py holds; files of _base_ < CONFIG.py < --cfg-options < options", rows))


def _panel(title: str, rows: Iterable[tuple[str, str | Text]]) -> Panel:
    """Names and what they mean, as typer shows options; no name is cut."""
    table = Table.grid(Column(style="bold cyan", no_wrap=True), Column(), padding=(0, 2))
    for name, about in rows:
        table.add_row(name, about)
    return Panel(table, title=title, title_align="left", border_style="dim")


def _about(field: TrainingField) -> Text:
    return Text.assemble(flags.option_help(field), (f" [default: {flags.default(field)}]", "dim"))


def _parameter(name: str, kind: Any, option: object) -> inspect.Parameter:
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _print_everything(ctx: typer.Context, asked: bool) -> None:
    if asked:
        assert isinstance(ctx.command, TrainingCommand), "no other command has this option"
        ctx.command.format_whole_help(ctx)
        raise typer.Exit


_HELP_ALL = typer.Option(
    "--help-all",
    is_eager=True,
    expose_value=False,
    callback=_print_everything,
    show_default=False,
    help="Show this message with all training arguments, and exit.",
)


def run_command(app: typer.Typer, words: Sequence[str], program: str) -> int:
    """Run the command that the words name; its exit status, 2 where the words are wrong, said in one line."""
    command = get_command(_reading_only(app, words))
    try:
        with command.make_context(program, list(words)) as ctx:
            return command.invoke(ctx) or 0
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        where: Any = getattr(error, "ctx", None)
        print(f"{where.command_path if where else program}: {_message(error)}", file=sys.stderr)
        return 2


def _reading_only(app: typer.Typer, words: Sequence[str]) -> typer.Typer:
    """The app, whose commands other than the one that the words name have a name and a help, but no parameters.

    typer would read the signature of each, twice, which takes longer than all else that a `--help` does.
    """
    first, *rest = [*dropwhile(lambda word: word.startswith("-"), words), ""]
    read = copy(app)
    read.registered_commands = [info if _name_of(info) == first else _unread(info) for info in app.registered_commands]
    read.registered_groups = [copy(info) for info in app.registered_groups]
    for info in read.registered_groups:
        if info.typer_instance:
            info.typer_instance = _reading_only(info.typer_instance, rest if info.name == first else ())
    return read


def _unread(info: CommandInfo) -> CommandInfo:
    """The command without its parameters."""
    unread = copy(info)
    unread.name, unread.help = _name_of(info), info.help or inspect.getdoc(info.callback)
    unread.callback = _not_to_be_run
    return unread


def _not_to_be_run() -> None:
    raise AssertionError("only the command that was read is run")


def _name_of(info: CommandInfo) -> str | None:
    return info.name or (get_command_name(info.callback.__name__) if info.callback else None)


def _message(error: typer.TyperException) -> str:
    message = " ".join(printable(error.format_message()).split()).replace("Value error, ", "")  # pydantic's
    return message if len(message) <= LONGEST else f"{message[:LONGEST]} ..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a command line says of a run: the config file, changes to it as `key=value`, and training arguments."""

    config: str
    options: Sequence[str] = ()
    flags: Mapping[str, object]


class RunCommand(TrainingCommand):
    """The entry of `accelerate launch`: the config says what is done."""

    shown = (
        *("output_dir", "do_train", "do_eval", "do_predict", "resume_from_checkpoint", "use_cpu", "seed", "bf16"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps"),
        *("learning_rate", "per_device_eval_batch_size"),
    )


def parse(words: Sequence[str]) -> Given:
    """`CONFIG.py [--cfg-options KEY=VALUE ...] [--any_training_argument VALUE ...]`. `--help` prints and exits.

    Raises:
        UsageError: a word that has no place, an unknown option, or a value of another type; says what may be meant.
    """
    try:
        with _run_command().make_context(Path(sys.argv[0]).name, list(words)) as ctx:
            return ctx.command.invoke(ctx)
    except typer.Exit as end:
        raise SystemExit(end.exit_code) from end
    except typer.TyperException as error:
        raise UsageError(_message(error), where="command line") from error


@cache
def _run_command() -> Any:
    app = typer.Typer(add_completion=False)
    app.command(cls=RunCommand, context_settings=CONTEXT_SETTINGS)(_given)
    return get_command(app)


def _given(ctx: typer.Context, config: ConfigFile, cfg_options: ConfigOptions) -> Given:
    """Train, evaluate and predict as the config's do_train, do_eval and do_predict say."""
    return Given(config=config, options=cfg_options, flags=ctx.obj)
