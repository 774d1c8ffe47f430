"""A folder as a user has it after a run: images, annotations, configs, a trained model with checkpoints, adapters."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.fuzz.commands import run
from tests.pipeline.tiny import CONFIG

QUESTIONS = ["Where is <expr>? <image>"]
LORA = dict(type="lora", r=2, targets=["language_model.*q_proj"])


def make(folder: Path, scratch: Path) -> None:
    """Everything that commands read, under `folder`."""
    _annotations(folder)
    data = dict(type="REC", filename="rec.jsonl", image_folder="photos", questions="questions.json")
    _config(folder, "train", data, output_dir="out", save_strategy="steps", save_steps=1)
    _config(folder, "lora", data, model=dict(model_name_or_path="out", adapters=LORA), output_dir="lora")
    _config(folder, "eval", data, model=dict(model_name_or_path="out"), output_dir="scores", do_train=False)
    _config(
        folder, "shards", dict(type="Shards", filename="photos.tar", questions="captions.json"), output_dir="shards"
    )
    for name in ("train", "lora"):
        outcome = run(["train", f"{name}.py"], folder, scratch)
        assert outcome.status == 0, outcome.error


def copied(whole: Path, folder: Path) -> Path:
    """A copy, whose files are links to the same bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder, copy_function=os.link, symlinks=True)
    return folder


def _annotations(folder: Path) -> None:
    (folder / "photos").mkdir(parents=True)
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (40, 24), colour).save(folder / "photos" / f"{name}.jpg")
    records = [
        {"img_path": f"{name}.jpg", "expression": f"the {thing}", "bbox": [4, 4, 20, 18], "width": 40, "height": 24}
        for name in "ab"
        for thing in ("dog", "cat")
    ]
    (folder / "rec.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    (folder / "questions.json").write_text(json.dumps(QUESTIONS), encoding="utf-8")
    (folder / "captions.json").write_text(json.dumps(["Describe <image>."]), encoding="utf-8")
    qwen = [{"from": "human", "value": "<image>\nWhere is it?"}, {"from": "gpt", "value": "[0.1,0.2,0.5,0.6]"}]
    (folder / "words.jsonl").write_text(
        json.dumps({"image": "photos/a.jpg", "width": 40, "height": 24, "conversations": qwen}) + "\n", encoding="utf-8"
    )
    (folder / "0.txt").write_text("A dog.", encoding="utf-8")
    for name, right in (("first", 1), ("second", 2)):
        answers = [
            {
                "key": f"rec.jsonl:{n + 1}",
                "index": n,
                "image": f"photos/{record['img_path']}",
                "text": "[0.1,0.2,0.5,0.6]",
            }
            | {"pred": [[4, 4, 20, 18]], "target": [record["bbox"]], "iou": 1.0, "score": float(n < right)}
            for n, record in enumerate(records)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers), encoding="utf-8")
    with tarfile.open(folder / "photos.tar", "w") as tar:
        tar.add(folder / "photos" / "a.jpg", "0.jpg")
        tar.add(folder / "0.txt", "0.txt")


def _config(
    folder: Path, name: str, data: dict[str, Any], model: dict[str, Any] | None = None, **training: Any
) -> None:
    sections = copy.deepcopy(CONFIG)
    if model is not None:
        sections["model_args"] = dict(type="llava", **model)
    captions = data["type"] == "Shards"
    sections["data_args"] = dict(
        train=data,
        validation=data,
        test=data,
        compute_metric=dict(type="ExactMatch" if captions else "REC"),
        gen_kwargs=dict(max_new_tokens=2),
    )
    sections["training_args"] |= {"do_train": True, "max_steps": 2, "per_device_train_batch_size": 2, **training}
    text = "\n".join(f"{section} = {values!r}" for section, values in sections.items())
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
