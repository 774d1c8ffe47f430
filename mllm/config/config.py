"""What a run is: a config file, the changes made on the command line, and the training arguments.

Precedence, rising: transformers' default, ours (`arguments.DEFAULTS`), the config file over its `_base_` files,
`--cfg-options a.b=c`, a flag of `RunArguments`. Paths in a config are relative to the working
directory; those that name a file that comes with the package are found without it, see `shipped`.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm.config import arguments
from mllm.config.files import MISTAKES, message_of, read_file, to_plain, write_file
from mllm.config.options import PLACE, assign, set_by_option
from mllm.config.output_dir import default_output_dir
from mllm.config.sections import check_names_of_sections
from mllm.config.shipped import find_shipped, with_shipped
from mllm.errors import ConfigError

if TYPE_CHECKING:
    from mmengine.config import Config as Config

    from mllm.config.command_line import Given
    from mllm.config.run_arguments import RunArguments


def load(given: Given) -> tuple[Config, RunArguments]:
    """The config of a run and its training arguments, as a command line says them.

    The config always holds the sections training_args (what file, options and flags gave, over `DEFAULTS`),
    model_args and data_args.

    Raises:
        ConfigError: anything a user can mend; says where, and names the nearest known name.
    """
    cfg = read(given.config, options=given.options, flags=given.flags)
    return cfg, arguments.build_training_arguments(cfg["training_args"])


def read(path: str | Path, *, options: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> Config:
    """The merged and checked config. Unlike `load`, it touches no device and joins no process group.

    Args:
        options: `key=value` texts.
        flags: training arguments that win over everything else.

    Raises:
        ConfigError: as `load`.
    """
    path = find_shipped(str(path))
    cfg = before = {"training_args": {}, "model_args": {}, "data_args": {}, **read_file(path)}
    for option in options:
        cfg = assign(cfg, option)
    cfg = {name: to_plain(section, f"{PLACE}: {name}") for name, section in cfg.items()}  # the file's are plain already
    cfg |= {name: with_shipped(cfg[name]) for name in ("model_args", "data_args")}
    from mllm.config.data_args import check_custom_imports, check_data_args
    from mllm.config.reward_args import read_reward_args

    try:
        check_names_of_sections(cfg)
        check_custom_imports(cfg.get("custom_imports") or {})
        _import(cfg.get("custom_imports", {}))
        check_data_args(cfg["data_args"])
        if "reward_args" in cfg:
            read_reward_args(cfg["reward_args"])
    except ConfigError as error:
        raise error.at(PLACE if set_by_option(error.field, options, before) else path) from error.__cause__
    given = {**cfg["training_args"], **(flags or {})}
    if given.get("output_dir") is None:
        given["output_dir"] = default_output_dir(path)
    cfg["training_args"] = {**to_plain(arguments.DEFAULTS, "DEFAULTS"), **given}
    arguments.check_training_arguments(cfg["training_args"])
    from mmengine.config import Config

    return Config(cfg, filename=path, format_python_code=False)


def dump(cfg: Config, training_args: RunArguments, folder: str | Path) -> Path | None:
    """Write the config as `folder/config.py`, a config file that gives an equal config when it is read.

    Of all processes of a run only the one that saves writes; the others return None.
    """
    if not training_args.should_save:
        return None
    names = to_plain(cfg.to_dict(), "config")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.py"
    write_file(names, path, header=f"What ran, merged from {cfg.filename or 'code'} and the command line.")
    return path


def _import(custom_imports: Mapping[str, Any]) -> None:
    """Import the modules; those of the working directory are found too, as with `python -m`.

    Raises:
        ConfigError: one is not there, or fails while it is imported; names the file and the line.
    """
    imports = custom_imports.get("imports") or []
    for name in [imports] if isinstance(imports, str) else imports:
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(name)
        except (*MISTAKES, SystemExit) as error:
            if isinstance(error, ImportError) and custom_imports.get("allow_failed_imports", False):
                warnings.warn(f"custom_imports: '{name}' was not imported: {error}", stacklevel=2)
                continue
            reason = f"cannot import {name!r}: {_import_place(error)}{type(error).__name__}: {message_of(error)}"
            raise ConfigError(reason, field="custom_imports") from error


def _import_place(error: BaseException) -> str:
    """`file:line: ` in the code that was imported; nothing where none ran."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    last = frames[-1]
    return "" if last.filename == __file__ else f"{last.filename}:{last.lineno}: "
