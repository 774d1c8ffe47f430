"""One question about each image of a folder: what `mllm predict --model DIR --images FOLDER` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from mllm.dataset.sets.folder import images_in
from mllm.errors import ConfigError, DataError, ImageError
from mllm.fields import show
from mllm.files import check_file, complete_lines, decode_utf8, parse_json, writing_to
from mllm.images import image_ref
from mllm.serve.ask import draw_answer
from mllm.serve.chat_model import load
from mllm.serve.reading import Answer

OnError = Literal["raise", "skip"]
RESUMED_IF_EQUAL = ("model", "prompt", "max_new_tokens", "num_beams")
"""What must be equal in the lines of a file that a run goes on with."""


def answer_folder(
    folder: str,
    prompt: str,
    images: str,
    *,
    out: str,
    drawings: str | None = None,
    on_error: OnError = "raise",
    device: str | None = None,
    max_new_tokens: int = 64,
    num_beams: int = 1,
    **model_args: Any,
) -> None:
    """Write what the model in `folder` answers about each image under `images`, a JSON object a line, to `out`.

    A line holds `image` (the path under `images`), its `image_size`, `text`, `boxes` and `points` in pixels of the
    image as it is shown upright, `labels` where boxes have some, and `failure`. Images that `out` answers already are
    left out, so that a run that was cut goes on; those that could not be read are tried again.

    Args:
        drawings: a folder for the images with their answers drawn on them, each as PNG.
        on_error: "skip": an image that cannot be read gets a line with `error` in place of an answer.

    Raises:
        ImageError: an image cannot be read; names it.
        DataError: a link leads out of the folder; likewise.
        ConfigError: `out` holds answers of another model, to another question, or of other settings.
    """
    root = Path(images)
    names = [str(path.relative_to(root)) for path in images_in(root)]
    asked = {"model": folder, "prompt": prompt, "max_new_tokens": max_new_tokens, "num_beams": num_beams}
    done = _answered(Path(out), asked)
    model = load(folder, device=device, **model_args)
    broken: list[str] = []

    def answers() -> Iterator[dict[str, Any]]:
        for name in tqdm([name for name in names if name not in done], desc="images", unit="image"):
            record: dict[str, Any] = {"image": name, **asked}
            try:
                image = image_ref(name, images)
                said = model.chat(image, prompt, max_new_tokens=max_new_tokens, num_beams=num_beams)
            except DataError as error:
                if not isinstance(error, ImageError) and error.kind != "image-path":
                    raise
                if on_error == "raise":
                    error.message = f"{error.message or ''} (--on_error skip goes on without it)".lstrip()
                    raise
                broken.append(name)
                yield {**record, "error": str(error)}
                continue
            if drawings:
                _draw(said, Path(drawings) / f"{name}.png")
            boxes, points = [box.xyxy for box in said.boxes], [point.xy for point in said.points]
            labels = [box.label for box in said.boxes]
            yield {
                **record,
                "image_size": said.item.images[0].size,
                "text": said.text,
                "boxes": boxes,
                **({"labels": labels} if any(labels) else {}),
                "points": points,
                "failure": said.failure,
            }

    with writing_to(out), Path(out).open("a", encoding="utf-8") as file:
        for record in answers():
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
    already = f", {len(done)} of them before" if done else ""
    print(f"{len(names)} images{already}: {out}")
    if broken:
        print(f"{len(broken)} could not be read: {', '.join(broken)}")


def _answered(path: Path, asked: Mapping[str, object]) -> set[str]:
    """The images that a file of answers has. A line that was cut while it was written is removed from it, and so are
    those without an answer.
    """
    if not path.exists():
        return set()
    check_file(path, ConfigError)
    done: set[str] = set()
    kept: list[bytes] = []
    for number, line in enumerate(complete_lines(path), start=1):
        where = f"{path}:{number}"
        record = parse_json(decode_utf8(line, where, ConfigError), dict, where, ConfigError)
        for name in RESUMED_IF_EQUAL:
            if record.get(name) != asked[name]:
                message = "name another file with --out"
                expected, found = show(asked[name]), show(record.get(name))
                raise ConfigError(message, where=where, field=name, expected=expected, found=found)
        if "error" not in record:
            done.add(str(record.get("image")))
            kept.append(line)
    with writing_to(path):
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(b"".join(kept))
        part.replace(path)
    return done


def _draw(said: Answer, path: Path) -> None:
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    draw_answer(said, path)
