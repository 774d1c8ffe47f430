"""Every config and every catalogue entry builds and runs two steps, with tiny stand-ins for checkpoints and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.config.config import read
from mllm.registry import DATASETS
from mllm.types import Item
from tests.models.tiny_hf import save_tiny
from tests.pipeline.tiny import save_stand_in

ROOT = Path(__file__).parents[1]
LEAVES = sorted((ROOT / "config").glob("*.py"))
CATALOGUES = sorted((ROOT / "config" / "catalogue").glob("*.py"))

CONVERSATION = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A dog."}]
RECORDS: dict[str, dict[str, Any]] = {
    "REC": {"img_path": "a.jpg", "expression": "the dog", "bbox": [4, 4, 20, 18], "width": 32, "height": 24},
    "Caption": {"img_path": "a.jpg", "caption": "A dog."},
    "GroundedCaption": {
        "image_id": "a",
        "sentence": "<ph_st>A dog<ph_ed> runs.",
        "boxes": [[4, 4, 20, 18]],
        "boxes_seq": [[0]],
    },
    "Instruct": {"id": "1", "image": "a.jpg", "conversations": CONVERSATION},
    "TextOnly": {"instruction": "Name an animal.", "output": "A dog."},
}
RECORDS["REG"] = RECORDS["REC"]


@pytest.fixture(autouse=True)
def repository_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (32, 24), "red").save(folder / "a.jpg")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_stand_in(folder)
    return folder


NATIVE = {
    "rec_qwen25_vl": "qwen2_5_vl",
    "rec_internvl": "internvl",
    "rec_smolvlm": "smolvlm",
    "rec_paligemma": "paligemma",
    "rec_kosmos2_eval": "kosmos-2",
}
"""The families of configs with model_args.type "hf"."""


def with_stand_ins(value: Any, pictures: Path, folder: Path) -> Any:
    """The same config with every annotation file that is not at hand replaced by two lines of its kind."""
    if isinstance(value, list):
        return [with_stand_ins(entry, pictures, folder) for entry in value]
    if not isinstance(value, dict):
        return value
    if "filename" in value and not Path(value["filename"]).exists():
        path = folder / f"{value['type']}.jsonl"
        path.write_text(f"{json.dumps(RECORDS[value['type']])}\n" * 2, encoding="utf-8")
        value = {**value, "filename": str(path)}
        if "image_folder" in value:
            value["image_folder"] = str(pictures)
    return {name: with_stand_ins(entry, pictures, folder) for name, entry in value.items()}


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_every_config_runs(path: Path, pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    from mllm.pipeline.finetune import main

    cfg = read(path).to_dict()
    data = with_stand_ins(cfg["data_args"], pictures, tmp_path)
    for name in ("validation", "test"):
        if name in data:
            data[name] = {"type": "Subset", "dataset": data[name], "first": 2}
    for entry in data.get("multitest", {}).values():
        entry["cfg"] = {"type": "Subset", "dataset": entry["cfg"], "first": 2}
    data["gen_kwargs"] = {**data.get("gen_kwargs", {}), "max_new_tokens": 2}
    model = cfg["model_args"]
    if "model_name_or_path" in model:
        native = model["type"] == "hf"
        model["model_name_or_path"] = str(save_tiny(NATIVE[path.stem], tmp_path / "native") if native else checkpoint)
    if "llava_next" in path.stem:
        model["tiling"] = {"type": "any_resolution", "pinpoints": [[32, 64], [64, 32]]}  # the stand-in is of 32 pixels
    training = {
        **cfg["training_args"],
        "max_steps": 2,
        "use_cpu": True,
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "out"),
    }
    tiny = tmp_path / "tiny.py"
    sections = {"training_args": training, "model_args": model, "data_args": data}
    tiny.write_text("\n".join(f"{name} = {value!r}" for name, value in sections.items()), encoding="utf-8")
    assert main([str(tiny)]) == 0


def entries() -> list[Any]:
    found: list[Any] = []
    for path in CATALOGUES:
        names: dict[str, Any] = {}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)  # noqa: S102, our own files
        found += [pytest.param(value, id=name) for name, value in names.items() if name.isupper()]
    return found


@pytest.mark.parametrize("entry", entries())
def test_every_catalogue_entry_builds(entry: dict[str, Any], pictures: Path, tmp_path: Path) -> None:
    items = DATASETS.make(with_stand_ins(entry, pictures, tmp_path))
    for epoch in (None, 0):
        items.set_epoch(epoch)
        assert isinstance(items[0], Item)
