"""`mllm init TASK DIR`: write a config, two lines of data, an image and a README."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ProjectTask(StrEnum):
    """What a project is about."""

    REC = "rec"
    REG = "reg"
    CAPTION = "caption"
    VQA = "vqa"


def init(
    task: Annotated[ProjectTask, typer.Argument(metavar="TASK", help=f"One of {', '.join(ProjectTask)}.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
) -> None:
    """Write a project to start from: a config, two lines of data, an image, a README. It trains as it stands.

    rec: from words to a box. reg: from a box to words. caption: what an image shows. vqa: questions about an image.
    """
    from mllm.commands.init.project import write_project

    write_project(task, folder)
    config = shlex.quote(str(folder / "config.py"))
    print(f"{folder}: wrote a project to start from; its README.md explains it. Try next:")
    print(f"  mllm data check {config}")
    print(f"  mllm train {config}")
