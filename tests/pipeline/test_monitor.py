"""What the log says of a training: counts of batches, sums over ranks, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import T5Config, T5ForConditionalGeneration

from mllm.conversation import prefix_tree
from mllm.conversation.collator import Collator, Packing
from mllm.conversation.packing import split_rounds
from mllm.pipeline import monitor as meters
from mllm.pipeline.build import build_model
from mllm.pipeline.finetune import main
from mllm.pipeline.flops import FlopCounts
from mllm.pipeline.monitor import (
    CountingCollator,
    ThroughputMonitor,
    are_scores,
    peak_memory,
    postfix,
    throughput_values,
)
from mllm.registry import DATASETS
from tests.pipeline.tiny import CONFIG, SCENES, write_config

READINGS = ("samples_per_second", "tokens_per_second", "padding", "sharing", "data_wait", "peak_memory_gib", "tflops")


def history(folder: Path) -> list[dict[str, Any]]:
    entries = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in entries if "loss" in entry]


@pytest.mark.parametrize("packing", get_args(Packing))
def test_a_batch_is_counted(packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_tree, "LEAST", 1)  # questions here are short
    items = DATASETS.make(dict(SCENES, count=3, objects=[4, 4], questions_per_scene=3))
    processor, _ = build_model(CONFIG["model_args"], {}, items)
    groups = [[processor.encode(each, n) for each in split_rounds(items[n])] for n in (0, 0, 1, 1, 2, 2)]
    batch = CountingCollator(Collator(pad_token_id=0, packing=packing, max_tokens=100))(groups)
    found = batch["counts"]
    examples = [example for group in groups for example in group]
    lengths = [len(example.input_ids) for example in examples]
    assert (found.samples, found.separate, found.cut_answers) == (18, sum(lengths), 0)
    assert found.rows == batch["input_ids"].numel()
    assert found.work.labels == sum(int((example.labels != -100).sum()) for example in examples)
    assert found.work.pixels == 3 * 3 * 32 * 32
    assert found.work.patch_pairs == 3
    if packing == "shared":
        # a segment sees itself, what it continues, and what that continues
        prefix, segments = batch["prefix_ids"], batch["segment_ids"]
        assert found.work.tokens == int((segments >= 0).sum()) < sum(lengths)
        same_BTT = (segments[:, :, None] == segments[:, None]) & (segments[:, None] >= 0)
        near_BTT = (prefix[:, :, None] == segments[:, None]) & (prefix[:, :, None] >= 0)
        far_BTT = near_BTT.float() @ near_BTT.float() > 0
        assert far_BTT.any(), "no tree of three levels"
        assert found.work.pairs == int((same_BTT | near_BTT | far_BTT).sum())
    else:
        assert found.work.tokens == sum(lengths)
        assert found.work.pairs == sum(length**2 for length in lengths)


def test_ranks_are_summed_and_the_fullest_is_told() -> None:
    # samples, separate, rows, tokens, cut answers, FLOPs, seconds of waiting and in all, peak memory
    ranks = [[8, 400, 120, 100, 1, 3e12, 0.5, 2.0, 2**30], [4, 200, 80, 50, 2, 1e12, 0.1, 2.0, 3 * 2**30]]
    assert throughput_values(ranks, peak=4e12) == {
        "samples_per_second": 6,
        "tokens_per_second": 75,
        "padding": 0.25,
        "sharing": 4,
        "data_wait": 0.15,
        "peak_memory_gib": 3,
        "tflops": 1,
        "mfu": 0.25,
        "cut_answers": 3,
    }


def test_what_is_not_known_is_not_told() -> None:
    found = throughput_values([[8, 400, 120, 100, 0, 3e12, 0.5, 2.0, 2**30]], peak=None)
    assert set(found) == set(READINGS)
    assert "tflops" not in throughput_values([[8, 400, 120, 100, 0, 0, 0.5, 2.0, 2**30]], peak=4e12)


def test_waiting_counts_and_evaluation_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    found = ThroughputMonitor(
        T5ForConditionalGeneration(T5Config(num_layers=1, d_model=8, d_ff=8, d_kv=4, num_heads=2, vocab_size=9))
    )
    nothing: Any = None

    def batches() -> Any:
        for _ in range(2):
            now[0] += 1
            yield meters.BatchCounts(samples=3, separate=5, rows=5, cut_answers=0, work=FlopCounts(tokens=5))

    for counts in found.waiting(batches()):
        with found.counting(counts):
            now[0] += 3
        found.on_step_end(nothing, nothing, nothing)
        now[0] += 50
        found.on_evaluate(nothing, nothing, nothing)
        now[0] += 20
        found.on_save(nothing, nothing, nothing)
    here: Any = SimpleNamespace(
        device=torch.device("cpu"), num_processes=1, is_main_process=True, gather=lambda tensor: tensor
    )
    read = found.read(here)
    assert read["samples_per_second"] == 6 / 8
    assert read["data_wait"] == 2 / 8


def test_the_log_of_a_run_has_the_readings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    config = write_config(
        tmp_path,
        training_args=dict(disable_tqdm=False, report_to="tensorboard", logging_steps=2),
        data_args=dict(max_length=20),
    )
    assert main([str(config), "--do_train", "True", "--output_dir", str(out)]) == 0
    entries = history(out)
    assert [entry["step"] for entry in entries] == [2, 4]
    assert all(set(READINGS) <= set(entry) for entry in entries)
    assert all(0 <= entry["padding"] < 1 and 0 < entry["data_wait"] < 1 for entry in entries)
    assert sum(entry.get("cut_answers", 0) for entry in entries) > 0
    log = (out / "train.log").read_text()
    assert log.count("model FLOPs = ") == 1
    assert '"tokens_per_second"' in log
    assert "samples/s, " in capsys.readouterr().err
    events = EventAccumulator(str(next((out / "runs").glob("*")).parent))
    events.Reload()
    assert "train/tokens_per_second" in events.Tags()["scalars"]
    assert json.loads((out / "trainer_state.json").read_text())["total_flos"] > 0


def test_the_bar_says_it_in_short() -> None:
    logs = {"samples_per_second": 35.86, "tokens_per_second": 11234.0, "data_wait": 0.012, "mfu": 0.448}
    assert postfix(logs) == "35.9 samples/s, 11.2k tokens/s, data wait 1%, MFU 45%"


def test_peak_memory_is_in_bytes() -> None:
    assert 2**26 < peak_memory(torch.device("cpu")) < 2**38


def test_are_scores_tells_an_evaluation_from_a_step_and_from_the_end_of_training() -> None:
    assert are_scores({"eval_acc@0.5": 0.5, "eval_runtime": 1.0})
    assert are_scores({"test_boxes_runtime": 1.0})
    assert not are_scores({"loss": 1.0, "grad_norm": 2.0})
    assert not are_scores({"train_runtime": 1.0, "train_loss": 2.0})
    assert not are_scores(None)
