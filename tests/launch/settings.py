"""What `accelerate launch` makes of a file of accelerate_config/."""

from __future__ import annotations

import argparse
from pathlib import Path

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "accelerate_config"


def launch_arguments(name: str, *flags: str) -> argparse.Namespace:
    words = ["--config_file", str(FOLDER / f"{name}.yaml"), *flags, "script.py", "config/x.py", "--bf16"]
    return _validate_launch_command(launch_command_parser().parse_args(words))[0]


def launch_environment(name: str, *flags: str) -> dict[str, str]:
    """The variables by which a launched process learns of the settings."""
    args = launch_arguments(name, *flags)
    if not args.use_deepspeed:
        return prepare_multi_gpu_env(args)
    args.deepspeed_fields_from_accelerate_config = ""  # `accelerate launch` fills it in; for messages only
    return prepare_deepspeed_cmd_env(args)[1]
