"""Training arguments that say something only where there are several processes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mllm.cli import main
from tests.launch.launching import LAUNCH, launch
from tests.pipeline.tiny import SCENES, save_stand_in, write_config

pytestmark = pytest.mark.slow

ITEMS = [dict(SCENES, count=1, seed=1, tasks=["count"]), dict(SCENES, count=1, seed=2, tasks=["rec"])]
"""Of unlike length."""
RUNS = {
    "plain": [],
    "each": ["--average_tokens_across_devices", "False"],
    "ddp": [
        *["--ddp_find_unused_parameters", "True", "--ddp_bucket_cap_mb", "1", "--ddp_broadcast_buffers", "True"],
        *["--ddp_backend", "gloo", "--ddp_timeout", "77"],
        *["--log_level", "error", "--log_level_replica", "debug", "--log_on_each_node", "False"],
    ],
    "static": ["--ddp_static_graph", "True", "--ddp_broadcast_buffers", "False"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arguments")
    save_stand_in(folder / "base")
    training = {"max_steps": 1, "per_device_train_batch_size": 1, "optim": "sgd", "learning_rate": 0.1}
    training |= {"max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    for name, items in {"a": ITEMS[:1], "b": ITEMS[1:], "both": ITEMS}.items():
        (folder / name).mkdir()
        write_config(
            folder / name,
            model_args={"model_name_or_path": str(folder / "base")},
            data_args={"train": {"type": "ConcatDataset", "datasets": items}},
            training_args=training,
        )
    runs = [
        [str(folder / "both" / "tiny.py"), "--do_train", "--output_dir", str(folder / name), *flags]
        for name, flags in RUNS.items()
    ]
    launch(*LAUNCH["ddp"], "tests/launch/arguments.py", json.dumps(runs))
    return folder


def found(folder: Path, name: str, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / name / f"rank_{rank}.json").read_text())


def test_average_tokens_across_devices_false_is_the_mean_of_the_means_of_ranks(folder: Path) -> None:
    """Steps of SGD are linear in the gradient: the mean of those of each rank alone."""
    alone = []
    for name in ("a", "b"):
        out = folder / f"{name}_out"
        assert main(["train", str(folder / name / "tiny.py"), "--output_dir", str(out)]) == 0
        alone.append(load_file(out / "model.safetensors"))
    each, plain = (found(folder, name)["weights"] for name in ("each", "plain"))
    apart = 0.0
    for name, weight in alone[0].items():
        mean = (weight + alone[1][name]) / 2
        torch.testing.assert_close(torch.tensor(each[name]), mean, rtol=1e-4, atol=1e-6)
        apart = max(apart, float((torch.tensor(plain[name]) - mean).abs().max()))
    assert apart > 1e-4  # of all tokens alike it is another
    assert found(folder, "each")["loss"] != pytest.approx(found(folder, "plain")["loss"], abs=1e-4)


def test_settings_of_ddp(folder: Path) -> None:
    plain, ddp, static = (found(folder, name) for name in ("plain", "ddp", "static"))
    assert (ddp["ddp"]["find_unused_parameters"], ddp["ddp"]["bucket_cap_mb"]) == (True, 1)
    assert (plain["buffers"], ddp["buffers"], static["buffers"]) == (True, True, False)
    assert (plain["static"], static["static"]) == (False, True)
    assert (ddp["backend"], ddp["timeout"]) == ("gloo", 77)
    for run in (ddp, static):
        assert run["loss"] == pytest.approx(plain["loss"], abs=1e-6)
        for name, weight in run["weights"].items():
            torch.testing.assert_close(torch.tensor(weight), torch.tensor(plain["weights"][name]))


def test_what_replicas_log(folder: Path) -> None:
    assert [found(folder, "ddp", rank)["verbosity"] for rank in (0, 1)] == [logging.ERROR, logging.DEBUG]
