"""Runs by rewards so small that a test can afford them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from tests.pipeline.tiny import SCENES, write_config

LENGTH = dict(type="Length", most=1, over=3)
"""A reward with a spread among the answers of a model that knows nothing."""


def write_rewarded(folder: Path, reward_args: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Path:
    """A config that samples two questions of each of two scenes in a batch."""
    data = dict(
        train=dict(SCENES, count=24, questions_per_scene=2), collator_kwargs=dict(packing="shared"), validation=None
    )
    training = dict(per_device_train_batch_size=2)
    given = {"data_args": data, "training_args": training}
    folder.mkdir(parents=True, exist_ok=True)
    path = write_config(
        folder, **{name: {**given.get(name, {}), **sections.get(name, {})} for name in (*given, *sections)}
    )
    section = dict(rewards=dict(iou=dict(type="BoxIoU"), length=LENGTH), num_generations=3, max_completion_length=6)
    path.write_text(f"{path.read_text()}\nreward_args = { ({**section, **(reward_args or {})})!r}\n", encoding="utf-8")
    return path


def with_a_broken_image(folder: Path) -> dict[str, Any]:
    """`data_args`: three lines, the image of the first of which cannot be read and is passed over."""
    Image.new("RGB", (40, 30)).save(folder / "right.png")
    (folder / "broken.png").write_bytes(b"no image")
    names = ("broken.png", "right.png", "right.png")
    lines = [{"img_path": name, "expression": "the dog", "bbox": [4, 4, 20, 18]} for name in names]
    file = folder / "lines.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    wording = dict(questions="examples/shapes/questions.json", answer="<boxes>")
    train = dict(type="REC", filename=str(file), image_folder=str(folder), **wording)
    return dict(train=train, images=dict(on_error="skip"))


def history(folder: Path) -> list[dict[str, float]]:
    """What the log says of each step, but for times."""
    entries = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    changing = ("per_second", "wait", "memory", "tflops", "runtime", "flos")
    return [
        {name: value for name, value in entry.items() if not any(part in name for part in changing)}
        for entry in entries
        if "loss" in entry
    ]
