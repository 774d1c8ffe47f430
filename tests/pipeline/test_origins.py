"""Which dataset of a mixture an item is of, and that the log tells the loss of each."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from PIL import Image

from mllm.conversation.collator import Packing
from mllm.pipeline.finetune import main
from mllm.pipeline.origins import DatasetLosses, Origins, names_of
from mllm.registry import DATASETS
from tests.marks import slow_but
from tests.pipeline.tiny import SCENES, save_stand_in, write_config

ALONE: Any = SimpleNamespace(device=torch.device("cpu"), reduce=lambda tensor, reduction: tensor)


def write_lines(folder: Path, name: str, count: int, answer: str) -> dict[str, Any]:
    """Questions about two photos, each with an answer of its own."""
    for number in range(2):
        Image.new("RGB", (32, 32), (80 * number, 90, 120)).save(folder / f"{number}.png")
    records = [
        {
            "image": f"{number % 2}.png",
            "conversations": [
                {"from": "human", "value": f"<image>\nWhat is {number}?"},
                {"from": "gpt", "value": f"{answer} {number}"},
            ],
        }
        for number in range(count)
    ]
    (folder / name).write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return dict(type="Instruct", filename=str(folder / name), image_folder=str(folder))


@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_origins_number_the_datasets_through_all_that_draws_from_others(tmp_path: Path, epoch: int | None) -> None:
    files = [write_lines(tmp_path, f"{name}.jsonl", 5, name) for name in ("a", "b", "c")]
    items = DATASETS.make(
        dict(
            type="Shuffle",
            dataset=dict(
                type="ConcatDataset",
                datasets=[
                    dict(type="Interleave", datasets=files[:2], stopping="all"),
                    dict(type="Repeat", dataset=dict(type="Subset", dataset=files[2], first=2), times=3),
                    dict(type="Augmented", dataset=dict(type="Mixture", datasets=[files[2], files[0]]), flip=0.5),
                ],
            ),
        )
    )
    origins = Origins(items)
    assert origins.names == ["a", "b", "c", "c_2", "a_2"]
    items.set_epoch(epoch)
    seen = {origins(index) for index in range(len(items)) if Path(items[index].key.partition(":")[0]).stem == "c"}
    assert seen == {2, 3}
    for index in range(len(items)):
        assert items[index].key.startswith(str(tmp_path / origins.names[origins(index)].removesuffix("_2")))


def test_origins_take_the_names_that_a_mixture_gives_and_look_no_deeper(tmp_path: Path) -> None:
    files = [write_lines(tmp_path, f"{name}.jsonl", 2, name) for name in ("a", "b", "c")]
    several = dict(type="ConcatDataset", datasets=files[:2])
    items = DATASETS.make(dict(type="Mixture", datasets=[several, files[2]], names=["two files", "one"]))
    origins = Origins(items)
    assert origins.names == ["two_files", "one"]
    assert [origins(index) for index in range(6)] == [0, 0, 0, 0, 1, 1]


def test_origins_of_a_dataset_alone(tmp_path: Path) -> None:
    alone = DATASETS.make(
        dict(type="MultiTurn", dataset=dict(type="ConcatDataset", datasets=[dict(SCENES, count=4)] * 2), draws=1)
    )
    assert len(Origins(alone)) == 1
    assert Origins(alone)(3) == 0


def test_names_of_files_that_are_called_alike_have_their_folder_or_a_number(tmp_path: Path) -> None:
    made: list[tuple[str | None, Any]] = []
    for folder in ("x", "y", "y"):
        (tmp_path / folder).mkdir(exist_ok=True)
        made.append((None, DATASETS.make(write_lines(tmp_path / folder, "train.jsonl", 1, "a"))))
    assert names_of([*made, ("odd name!", None)]) == ["x_train", "y_train", "y_train_2", "odd_name_"]


def test_dataset_losses_are_means_over_tokens_and_leave_out_what_is_not_finite() -> None:
    losses = DatasetLosses(["a", "b", "c"])
    losses.add(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 1, 0]))
    losses.add(torch.tensor([4.0, math.nan, math.inf]), torch.tensor([0, 0, 1]))
    assert losses.means(ALONE) == {"loss/a": 3.0, "loss/b": 2.0}
    assert losses.means(ALONE) == {}


@pytest.mark.parametrize("packing", slow_but(["shared"], get_args(Packing)))
def test_the_log_tells_the_loss_of_each_dataset(tmp_path: Path, packing: Packing) -> None:
    """At the first step, whose two batches hold all items, the loss is that of an evaluation before it."""
    files = [
        write_lines(tmp_path, "short.jsonl", 3, "A"),
        write_lines(tmp_path, "long.jsonl", 5, "One, two, three and"),
    ]
    both = dict(type="ConcatDataset", datasets=files)
    save_stand_in(tmp_path / "base")
    model = dict(model_name_or_path=str(tmp_path / "base"))
    config = write_config(
        tmp_path,
        model_args=model,
        training_args=dict(gradient_accumulation_steps=2, max_steps=2, prediction_loss_only=True),
        data_args=dict(train=both, validation=both, collator_kwargs=dict(packing=packing)),
    )
    out = tmp_path / "out"
    assert main([str(config), "--do_train", "True", "--eval_on_start", "True", "--output_dir", str(out)]) == 0
    before, first, second, _ = json.loads((out / "trainer_state.json").read_text())["log_history"]
    names = ["loss/short", "loss/long"]
    assert first["loss"] == pytest.approx(before["eval_loss"], abs=1e-5)
    for name in names:
        assert first[name] == pytest.approx(before[f"eval_{name}"], abs=1e-5)
        assert second[name] < first[name]
    assert first["loss/short"] != pytest.approx(first["loss/long"], abs=1e-3)
    assert '"loss/long": ' in (out / "train.log").read_text()
    for name, file in zip(names, files, strict=True):
        (tmp_path / name[5:]).mkdir()
        alone = write_config(
            tmp_path / name[5:],
            model_args=model,
            training_args=dict(prediction_loss_only=True),
            data_args=dict(validation=file),
        )
        out = tmp_path / name[5:] / "out"
        assert main([str(alone), "--do_eval", "True", "--output_dir", str(out)]) == 0
        found = json.loads((out / "eval_results.json").read_text())
        assert found["eval_loss"] == pytest.approx(before[f"eval_{name}"], abs=1e-5)
        assert not any(key.startswith("eval_loss/") for key in found)
