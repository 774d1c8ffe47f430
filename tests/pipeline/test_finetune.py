"""The whole path, from a config file to scores, files and a resumed run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from mllm.cli import main
from mllm.conversation.processor import Processor
from mllm.dataset.sets.scenes import Scenes
from mllm.errors import ConfigError
from mllm.models.runtime.packed_attention import FLEX
from mllm.pipeline import finetune, finetune_mem
from mllm.pipeline.evaluate import share_out
from mllm.report import plots
from tests.pipeline.tiny import losses, write_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of one run that trains, evaluates and predicts."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder)
    out = folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mllm.pipeline.monitor.plot_losses", plots.plot_losses)  # which other runs leave out
        assert main(["train", str(config), "--do_eval", "True", "--do_predict", "True", "--output_dir", str(out)]) == 0
    return out


@pytest.mark.parametrize("prefix", ["eval", "test", "multitest_boxes", "multitest_numbers"])
def test_every_test_set_leaves_results_predictions_and_a_report(trained: Path, prefix: str) -> None:
    counts = {"eval": 7, "test": 5, "multitest_boxes": 4, "multitest_numbers": 4}
    results = json.loads((trained / f"{prefix}_results.json").read_text())
    lines = [json.loads(line) for line in (trained / f"{prefix}_extra_prediction.jsonl").read_text().splitlines()]
    assert results[f"{prefix}_count"] == counts[prefix]
    assert [line["index"] for line in lines] == list(range(counts[prefix]))
    assert "<html" in (trained / f"{prefix}_report.html").read_text()


def test_rec_results_hold_scores_failures_and_the_floor(trained: Path) -> None:
    results = json.loads((trained / "eval_results.json").read_text())
    for name in ("loss", "acc@0.25", "acc@0.5", "acc@0.75", "mean_iou", "constant_box_acc@0.5", "failure_malformed"):
        assert f"eval_{name}" in results
    line = json.loads((trained / "eval_extra_prediction.jsonl").read_text().splitlines()[0])
    names = {"key", "index", "image", "image_size", "question", "text", "pred", "target", "target_texts", "candidates"}
    assert set(line) == names | {"failure", "read_by", "iou", "score", "group"}
    assert results["about"]["data"]["items"] == 7
    assert len(results["intervals"]["eval_acc@0.5"]) == 2
    assert len(line["target"][0]) == 4


def test_a_run_leaves_config_log_losses_and_model(trained: Path) -> None:
    for name in ("config.py", "train.log", "loss.png", "model.safetensors", "config.json", "tokenizer.json"):
        assert (trained / name).stat().st_size > 0
    assert sorted(losses(trained)) == [1, 2, 3, 4]


def test_the_dumped_config_evaluates_the_saved_model_to_the_same_scores(trained: Path, tmp_path: Path) -> None:
    arguments = ["--cfg-options", f"model_args.model_name_or_path={trained}", "--output_dir", str(tmp_path)]
    assert main(["eval", str(trained / "config.py"), *arguments]) == 0
    before = json.loads((trained / "eval_results.json").read_text())
    after = json.loads((tmp_path / "eval_results.json").read_text())
    for name in ("eval_loss", "eval_acc@0.5", "eval_mean_iou", "eval_count"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)
    assert not (tmp_path / "test_results.json").exists()


def test_predict_replaces_what_an_earlier_run_wrote(trained: Path, tmp_path: Path) -> None:
    arguments = ["--cfg-options", f"model_args.model_name_or_path={trained}", "--output_dir", str(tmp_path)]
    for _ in range(2):
        assert main(["predict", str(trained / "config.py"), *arguments]) == 0
    assert len((tmp_path / "test_extra_prediction.jsonl").read_text().splitlines()) == 5


def test_a_run_with_a_linear_connector_is_exported_to_transformers(trained: Path, tmp_path: Path) -> None:
    assert main(["checkpoint", "export", str(trained), str(tmp_path / "hf")]) == 0
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["projector_hidden_act"] == "linear"


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 4, 7, 12])
def test_ranks_share_the_work_without_gap_or_overlap(count: int, ranks: int) -> None:
    plans = [share_out(count, ranks, rank) for rank in range(ranks)]
    assert len({len(plan) for plan in plans}) == 1
    seen = [number for step in zip(*plans, strict=True) for number, counts in step if counts]
    assert seen == list(range(count))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "no.py"], "no.py"),
        (
            ["train", "CONFIG", "--cfg-options", "data_args.collator_kwargs.max_tokens=90"],
            "data_args.collator_kwargs.max_tokens: expected nothing where rows are not packed",
        ),
        (["train", "CONFIG", "--train_sampling_strategy", "group_by_length"], "expected 'random' or 'sequential'"),
        (["train", "CONFIG", "--cfg-options", "data_args.train.type=Scene"], "did you mean 'Scenes'"),
        (["train", "CONFIG", "--cfg-options", "data_args.train.cuont=3"], "did you mean 'count'"),
        (["train", "CONFIG", "--cfg-options", "model_args.type=lava"], "did you mean 'llava'"),
        (["train", "CONFIG", "--cfg-options", "model_args.codec=shikr"], "did you mean 'shikra'"),
        (["eval", "CONFIG"], "model_args.model_name_or_path=DIR"),
        (
            ["eval", "CONFIG", "--cfg-options", "model_args.model_name_or_path=/no/such"],
            "/no/such: expected a local checkpoint with its tokenizer, found no such folder",
        ),
    ],
)
def test_what_a_user_can_mend_is_said_on_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path))
    named = [config if argument == "CONFIG" else argument for argument in arguments]
    assert main([*named, "--output_dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("ConfigError") or error.startswith("ModelError")


def test_a_wrong_command_line_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian", "x.py"]) == 2
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert "mllm: No such command 'trian'. Did you mean 'train'?\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "chek", "x.py"], "mllm data: No such command 'chek'. Did you mean 'check'?"),
        (["data", "check", "x.py", "--wrkers", "3"], "unknown flag --wrkers; did you mean '--workers'?"),
        (["data", "check", "x.py", "--stand-in=1"], "mllm data check: --stand-in takes no value, found '1'"),
        (["data", "show", "x.py", "--index"], "mllm data show: --index: expected N ..."),
        (["train"], "mllm train: Missing argument 'CONFIG.py'."),
        (["train", "x.py", "--leaning_rate", "1"], "mllm train: unknown flag --leaning_rate; did you mean"),
        (["train", "x.py", "--max_steps"], "mllm train: --max_steps: expected a value"),
        (["train", "x.py", "--max_steps", "abc"], "mllm train: --max_steps: expected a whole number, found str 'abc'"),
        (["eval", "x.py", "y.py"], "mllm eval: Got unexpected extra argument(s) (y.py)"),
        (["train", "--cfg-options", "x.py"], "mllm train: --cfg-options: expected KEY=VALUE ..., found 'x.py'"),
        (["data", "check", "x.py", "--cfg-options", "a"], "--cfg-options: expected KEY=VALUE ..., found 'a'"),
        (["data", "show"], "mllm data show: Missing argument 'CONFIG.py'."),
        (["model", "show", "x.py", "y.py"], "unexpected extra argument(s) (y.py)"),
        (["checkpoint", "export", "a", "b", "--format", "pt"], "'pt' is not one of 'transformers-llava'"),
        (["predict", "--model", "x"], "mllm predict: --model DIR needs --prompt TEXT too"),
        (["predict", "x.py", "--image", "a.png"], "mllm predict: --image: needs --model DIR too"),
        (["predict", "x.py", "--model", "x", "--prompt", "Where?"], "takes no CONFIG.py"),
        (["predict", "--model", "x", "--prompt", "Where?", "--seed", "1"], "no training argument"),
        (["predict", "--model", "x", "--prompt", "Where?", "--box", "1,2"], "--box: expected X1,Y1,X2,Y2, found '1,2'"),
        (["predict"], "expected CONFIG.py, or --model DIR"),
        (["predict", "--model", "x", "--prompt", "Where?", "--draw="], "mllm predict: --draw: expected FILE, found ''"),
        (["predict", "--model", "x", "--prompt", "a", "--retries", "1"], "--retries: needs --api URL too"),
        (["predict", "x.py", "--model", "x", "--api", "http://x", "--num_beams", "2"], "--num_beams: has no effect"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_says_what_is_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["data", "check", "--cfg-options", "a.b=1", "c=2", "no_such.py"],
        ["train", "--cfg-options", "a.b=1", "no_such.py", "--seed", "1"],
        ["data", "check", "--split", "train", "no_such.py"],
        ["train", "--report_to", "none", "no_such.py"],
    ],
)
def test_a_config_behind_an_option_of_several_words_is_the_config(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    assert capsys.readouterr().err.startswith("ConfigError: config file no_such.py: no such file")


def test_a_launched_run_says_a_wrong_command_line_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune.main(["x.py", "--max_steps", "abc"]) == 2
    assert capsys.readouterr().err == (
        "UsageError: command line: --max_steps: expected a whole number, found str 'abc'\n"
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"mllm \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing where there is no GPU")
def test_finetune_mem_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune_mem.main([str(write_config(tmp_path)), "--do_train", "True"]) == 1
    assert "finetune_mem: expected an NVIDIA GPU for flex attention, found none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "packing", "attention"),
    [
        ({}, "rows", FLEX),
        ({"collator_kwargs": {"packing": "shared", "max_tokens": 9}}, "shared", FLEX),
        ({"collator_kwargs": {"packing": "none"}}, "none", "flash_attention_2"),
    ],
)
def test_finetune_mem_packs_rows_for_flex_attention(
    data: dict[str, Any], packing: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: True)
    cfg: dict[str, Any] = {"data_args": data, "model_args": {"type": "llava"}}
    finetune_mem.choose_attention(cfg)
    assert cfg["data_args"]["collator_kwargs"]["packing"] == packing
    assert cfg["model_args"]["attn_implementation"] == attention


def test_finetune_mem_says_what_padded_rows_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: False)
    cfg = {"data_args": {"collator_kwargs": {"packing": "none"}}, "model_args": {"type": "llava"}}
    with pytest.raises(ConfigError, match="expected 'rows' or 'shared' without the package flash-attn, found 'none'"):
        finetune_mem.choose_attention(cfg)


def test_an_evaluation_builds_each_item_once(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, answers and report read the same items."""
    built: list[int] = []
    build = Scenes.__getitem__
    monkeypatch.setattr(Scenes, "__getitem__", lambda scenes, index: built.append(index) or build(scenes, index))
    arguments = ["--cfg-options", f"model_args.model_name_or_path={trained}", "--output_dir", str(tmp_path)]
    assert main(["eval", str(trained / "config.py"), *arguments]) == 0
    assert sorted(built) == list(range(7))


def stopped(trained: Path, folder: Path, lines: int) -> Path:
    """A folder with what an evaluation of the test set leaves that is killed while it writes a line."""
    folder.mkdir()
    whole = (trained / "test_extra_prediction.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "test_extra_prediction.jsonl.partial").write_bytes(b"".join(whole[:lines]) + whole[lines][:10])
    about = json.loads((trained / "test_results.json").read_text())["about"]
    (folder / "test_about.json.partial").write_text(json.dumps(about))
    return folder


def predicts(trained: Path, folder: Path, *options: str) -> int:
    arguments = ["--cfg-options", f"model_args.model_name_or_path={trained}", *options, "--output_dir", str(folder)]
    return main(["predict", str(trained / "config.py"), *arguments, "--resume", "True"])


def test_a_killed_evaluation_goes_on_to_the_same_bytes(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(trained, tmp_path / "out", 3)
    answered: list[int] = []
    decode = Processor.decode

    def counted(self: Processor, ids: Any, item: Any, index: int, **rest: Any) -> Any:
        answered.append(index)
        return decode(self, ids, item, index, **rest)

    monkeypatch.setattr(Processor, "decode", counted)
    assert predicts(trained, folder) == 0
    name = "test_extra_prediction.jsonl"
    assert (folder / name).read_bytes() == (trained / name).read_bytes()
    assert sorted(index for index in answered if index < 3) == [0, 0, 1, 1, 2, 2]  # of the two sets that had not begun
    before, after = (json.loads((each / "test_results.json").read_text()) for each in (trained, folder))
    assert before["test_acc@0.5"] == after["test_acc@0.5"]
    assert not list(folder.glob("*.partial"))


def test_a_killed_evaluation_is_not_continued_by_another(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(trained, tmp_path / "out", 3)
    assert predicts(trained, folder, "data_args.gen_kwargs.max_new_tokens=3") == 1
    error = capsys.readouterr().err
    assert "test_extra_prediction.jsonl.partial: generation: expected" in error
    assert "leave --resume out to begin anew" in error
