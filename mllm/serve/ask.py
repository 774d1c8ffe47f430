"""One question on the command line: what `mllm predict --model DIR --prompt TEXT` prints and draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mllm.errors import ConfigError, printable
from mllm.files import writing_to
from mllm.serve.chat_model import load
from mllm.serve.reading import Answer


def ask_folder(
    folder: str,
    prompt: str,
    images: Sequence[str] = (),
    *,
    boxes: Sequence[Sequence[float]] = (),
    answer_image: int | None = None,
    drawing: str | None = None,
    device: str | None = None,
    max_new_tokens: int = 64,
    num_beams: int = 1,
    **model_args: Any,
) -> None:
    """Print what the model in the folder answers; `drawing`: a file for its boxes and points, drawn on the images.

    The other arguments are those of `load` and `ChatModel.chat`.
    """
    if drawing:
        _check_drawing(drawing, images)
    model = load(folder, device=device, **model_args)
    said = model.chat(
        images,
        prompt,
        boxes=boxes,
        answer_image=answer_image,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
    )
    print_answer(said)
    if drawing:
        for path in draw_answer(said, Path(drawing)):
            print(f"drawn: {path}")


def print_answer(said: Answer) -> None:
    """The words, and a line for each box and point, without colours."""
    print(printable(said.text, keep="\n\t"))
    for box in said.boxes:
        print("box  ", *(f"{value:.1f}" for value in box.xyxy))
    for point in said.points:
        print("point", *(f"{value:.1f}" for value in point.xy))
    if said.failure:
        print(f"a region of the answer could not be read: {said.failure}")


def _check_drawing(path: str, images: Sequence[str]) -> None:
    if not Path(path).absolute().parent.is_dir():
        raise ConfigError(where="--draw", expected="a file in an existing folder", found=path)
    if not images:
        raise ConfigError(where="--draw", expected="an --image to draw on", found="none")
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise ConfigError(where="--draw", expected="the name of an image file, such as answer.png", found=path)


def draw_answer(answer: Answer, path: Path) -> list[Path]:
    """Write each image that the answer has boxes or points on, upright as the model saw it; returns the paths.

    The first is `path`, the second gets the suffix _2, and so on. An answer without regions is drawn on the image that
    the question is about.
    """
    written: list[Path] = []
    for number in sorted({region.image for region in answer.regions}) or [answer.item.answer_image]:
        written.append(path.with_stem(f"{path.stem}_{len(written) + 1}") if written else path)
        drawn = answer.draw(number)
        with writing_to(written[-1]):
            drawn.save(written[-1])
    return written
