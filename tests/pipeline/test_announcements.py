"""What a run says before it trains and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllm.cli import main
from tests.pipeline.tiny import SCENES, write_config


def test_a_run_says_what_it_trains_and_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = dict(SCENES, count=3)
    config = write_config(
        tmp_path,
        data_args={
            "train": dict(SCENES, count=8),
            "validation": None,
            "test": items,
            "multitest": {"more": {"cfg": items, "compute_metric": "REC"}},
            "compute_metric": "REC",
        },
        training_args={"max_steps": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    )
    out = tmp_path / "out"
    words = ["--do_eval", "False", "--do_predict", "--output_dir", str(out)]
    assert main(["train", str(config), *words]) == 0
    found = capsys.readouterr()
    log = (out / "train.log").read_text()
    for said in (
        "  model           llava: ",
        " parameters, ",
        "  train           8 items of data_args.train (Scenes)\n",
        "  batch           2 x 2 accumulated x 1 processes = 4\n",
        "  length          1 steps, fp32, on cpu\n",
        f"  output          {out}\n",
        "3 items\n",
        f"trained 1 steps; the model is in {out}\n",
        f"mllm eval {out}/config.py --cfg-options model_args.model_name_or_path={out} --output_dir {out}/eval\n",
    ):
        assert said in log, said
        assert said in found.err
    joint = found.out.splitlines()[-3:]
    assert [line.split()[0] for line in joint] == ["test", "multitest_more", "report:"]
    assert [line.split()[-2] for line in joint[:2]] == ["3", "3"]
