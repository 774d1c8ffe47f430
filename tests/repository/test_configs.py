"""Every config and every catalogue entry builds and runs two steps, with tiny stand-ins for checkpoints and files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mllm.config.config import read
from mllm.registry import DATASETS
from mllm.types import Item
from tests import stand_ins
from tests.marks import slow_but

ROOT = Path(__file__).parents[2]
LEAVES = sorted((ROOT / "config").glob("*.py"))
FAST = (
    "caption_openflamingo_4b_zero2",
    "demo_reward",
    "flan_t5_small_int8_lora",
    "llava_v1_5_7b_finetune",
    "rec_kosmos2_eval",
    "rec_llava_next_7b_fsdp",
    "rec_llava_tiny_lora",
    "rec_qwen25_vl",
)
"""A config of each kind: of model, of training, of mixture. The demo is trained by the walk through the docs."""
CATALOGUES = sorted((ROOT / "config" / "catalogue").glob("*.py"))


@pytest.fixture(autouse=True)
def repository_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    stand_ins.save_image(folder / "a.jpg")
    return folder


@pytest.mark.parametrize(
    "path", slow_but([path for path in LEAVES if path.stem in FAST], LEAVES), ids=lambda path: path.stem
)
def test_every_config_runs(path: Path, images: Path, tmp_path: Path) -> None:
    from mllm.pipeline.finetune import main

    cfg = read(path).to_dict()
    data = stand_ins.data(cfg["data_args"], images, tmp_path)
    for name in ("validation", "test"):
        if name in data:
            data[name] = {"type": "Subset", "dataset": data[name], "first": 2}
    for entry in data.get("multitest", {}).values():
        entry["cfg"] = {"type": "Subset", "dataset": entry["cfg"], "first": 2}
    data["gen_kwargs"] = {**data.get("gen_kwargs", {}), "max_new_tokens": 2}
    model = stand_ins.model_parts(cfg["model_args"], tmp_path / "checkpoints")
    if "quantization" in model and not find_spec(model["quantization"]["type"]):
        pytest.skip(f"{model['quantization']['type']} is not installed")
    if "Molmo2" in cfg["model_args"].get("model_name_or_path", ""):
        pytest.importorskip("torchvision")
    if "llava_next" in path.stem:
        model["tiling"] = {"type": "any_resolution", "pinpoints": [[32, 64], [64, 32]]}  # the stand-in is of 32 pixels
    training = {
        **cfg["training_args"],
        "max_steps": 2,
        "use_cpu": True,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": min(2, cfg["training_args"].get("gradient_accumulation_steps", 1)),
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "out"),
    }
    tiny = tmp_path / "tiny.py"
    sections = {"training_args": training, "model_args": model, "data_args": data}
    if "reward_args" in cfg:
        sections["reward_args"] = {**cfg["reward_args"], "num_generations": 2, "max_completion_length": 4}
    tiny.write_text("\n".join(f"{name} = {value!r}" for name, value in sections.items()), encoding="utf-8")
    assert main([str(tiny)]) == 0
    if training.get("do_train"):
        history = json.loads((tmp_path / "out" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        if "reward_args" in cfg:
            assert len([entry["reward"] for entry in history if "reward" in entry]) == 2
            return
        loss = next(entry["train_loss"] for entry in history if "train_loss" in entry)
        assert 0 < loss < 20


@pytest.mark.parametrize("path", [path for path in LEAVES if path.stem.startswith("rec_")], ids=lambda path: path.stem)
def test_referring_expressions_share_their_images_where_the_model_can(path: Path) -> None:
    cfg = read(path).to_dict()
    packing = cfg["data_args"].get("collator_kwargs", {}).get("packing", "none")
    training = {"rec_paligemma": "rows", "rec_florence2": "none", "rec_qwen35": "none"}.get(path.stem, "shared")
    assert packing == (training if cfg["training_args"]["do_train"] else "none")


def entries() -> list[Any]:
    found: list[Any] = []
    for path in CATALOGUES:
        names: dict[str, Any] = {}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)  # noqa: S102, our own files
        found += [pytest.param(value, id=name) for name, value in names.items() if name.isupper()]
    return found


@pytest.mark.parametrize("entry", entries())
def test_every_catalogue_entry_builds(entry: dict[str, Any], images: Path, tmp_path: Path) -> None:
    items = DATASETS.make(stand_ins.data(entry, images, tmp_path))
    for epoch in (None, 0):
        items.set_epoch(epoch)
        assert isinstance(items[0], Item)
