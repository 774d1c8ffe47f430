"""The files of a new project. Its image is drawn here, so its licence is the project's own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageDraw

from mllm.config.shipped import shipped_root
from mllm.errors import ConfigError
from mllm.files import writing_to

IMAGE_NAME = "scene.png"
SIZE = (320, 240)
"""Width and height in pixels."""
CIRCLE, SQUARE = (40, 50, 140, 150), (200, 100, 290, 190)
"""xyxy in pixels, the right and lower edge excluded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectKind:
    """The parts in which projects differ.

    Attributes:
        dataset: the type that reads the lines.
        about: what it asks and answers.
        pool: the file of its questions.
        metric: by which answers are scored.
        lines: of the data, two.
        question: to ask the trained model, as an argument of `mllm predict`.
    """

    dataset: str
    about: str
    pool: str
    metric: str
    lines: Sequence[Mapping[str, Any]]
    question: str


def _answered(question: str, answer: str) -> dict[str, object]:
    annotation = {"multiple_choice_answer": answer, "answers": [{"answer": answer}] * 10}
    return {"image_path": IMAGE_NAME, "question": question, "annotation": annotation}


BOXED = (
    {"img_path": IMAGE_NAME, "expression": "the red circle", "bbox": list(CIRCLE)},
    {"img_path": IMAGE_NAME, "expression": "the blue square", "bbox": list(SQUARE)},
)
KINDS = {
    "rec": ProjectKind(
        dataset="REC",
        about="referring expression -> box",
        pool="rec.json",
        metric="REC",
        lines=BOXED,
        question="--prompt 'the red circle' --draw answer.png",
    ),
    "reg": ProjectKind(
        dataset="REG",
        about="box -> referring expression",
        pool="reg.json",
        metric="ExactMatch",
        lines=BOXED,
        question=f"--prompt 'What is in <boxes>?' --box {','.join(map(str, CIRCLE))}",
    ),
    "caption": ProjectKind(
        dataset="Caption",
        about="image -> caption",
        pool="caption.json",
        metric="ExactMatch",
        lines=(
            {"img_path": IMAGE_NAME, "caption": "a red circle and a blue square"},
            {"img_path": IMAGE_NAME, "caption": ["a red circle and a blue square", "two shapes"]},
        ),
        question="--prompt 'Describe the image.'",
    ),
    "vqa": ProjectKind(
        dataset="VQAv2",
        about="question -> short answer",
        pool="vqa.json",
        metric="VQAAccuracy",
        lines=(
            _answered("What color is the circle?", "red"),
            _answered("What color is the square?", "blue"),
        ),
        question="--prompt 'What color is the circle?'",
    ),
}


def write_project(task: str, folder: Path) -> None:
    """Write a project for the task into a new or empty folder.

    Raises:
        ConfigError: the folder holds something, is none, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = "one with files" if folder.is_dir() else "a file"
        raise ConfigError("nothing is overwritten", where=str(folder), expected="a new or empty folder", found=found)
    kind = KINDS[task]
    questions = json.loads((shipped_root() / "config" / "questions" / kind.pool).read_text(encoding="utf-8"))
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_files(task, kind, questions, folder)


def _write_files(task: str, kind: ProjectKind, questions: object, folder: Path) -> None:
    _drawn().save(folder / IMAGE_NAME)
    _write(folder / "questions.json", json.dumps(questions, indent=2, ensure_ascii=False))
    _write(folder / "train.jsonl", "\n".join(json.dumps(line) for line in kind.lines))
    environment = Environment(loader=PackageLoader("mllm.commands.init", "."), undefined=StrictUndefined)
    names = {"kind": kind, "task": task, "folder": shlex.quote(str(folder)), "image": IMAGE_NAME}
    for name in ("config.py", "README.md"):
        _write(folder / name, environment.get_template(f"{name}.j2").render(names))


def _write(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def _drawn() -> Image.Image:
    image = Image.new("RGB", SIZE, (240, 240, 235))
    draw = ImageDraw.Draw(image)
    draw.ellipse((CIRCLE[0], CIRCLE[1], CIRCLE[2] - 1, CIRCLE[3] - 1), fill=(220, 30, 30))
    draw.rectangle((SQUARE[0], SQUARE[1], SQUARE[2] - 1, SQUARE[3] - 1), fill=(30, 60, 220))
    return image
