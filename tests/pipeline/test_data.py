"""The data of a run: nothing empty, each dataset of several by itself, as many items as asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mllm.cli import main
from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError, DataError
from mllm.pipeline.data import load_data, missing_files
from mllm.registry import DATASETS
from mllm.types import Item
from tests.pipeline.tiny import SCENES, save_stand_in, write_config


def load(data: dict[str, Any], folder: Path, **asked: Any) -> Any:
    args = RunArguments(output_dir=str(folder), use_cpu=True, report_to="none", **asked)
    return load_data({"data_args": data}, args)


def texts(path: Path, count: int, word: str = "word") -> dict[str, Any]:
    """A dataset of so many lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"instruction": f"{word} {number}", "output": f"{number}"}) for number in range(count)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return {"type": "TextOnly", "filename": str(path)}


def asked(test: Any) -> list[str]:
    items: list[Item] = [test.items[index] for index in range(len(test.items))]
    return [item.turns[0].text for item in items]


@DATASETS.register_module()
class Nothing:
    """A dataset that found nothing where it looked."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Item:
        raise IndexError(index)

    def set_epoch(self, epoch: int | None) -> None:
        pass


def test_load_data_gives_each_dataset_of_several_its_own_files(tmp_path: Path) -> None:
    several = [
        texts(tmp_path / "a" / "val.jsonl", 2),
        texts(tmp_path / "b" / "val.jsonl", 3),
        texts(tmp_path / "c.jsonl", 1),
    ]
    inner = {"type": "ConcatDataset", "datasets": several}
    mixed = {"type": "Interleave", "datasets": [inner, dict(SCENES, count=4)]}
    data = {"test": mixed, "multitest": {"x": {"cfg": inner}, "y": {"cfg": several[0]}}}
    tests = load(data, tmp_path, do_predict=True).tests
    expected = {"test_a_val": 2, "test_b_val": 3, "test_c": 1, "test_scenes_seed_0": 4}
    expected |= {"multitest_x_a_val": 2, "multitest_x_b_val": 3, "multitest_x_c": 1, "multitest_y": 2}
    assert {name: len(test.items) for name, test in tests.items()} == expected


def test_load_data_numbers_what_has_one_name(tmp_path: Path) -> None:
    same = [texts(tmp_path / "a.jsonl", 2)] * 2
    tests = load({"test": {"type": "ConcatDataset", "datasets": same}}, tmp_path, do_predict=True).tests
    assert list(tests) == ["test_a", "test_a_2"]


def test_load_data_draws_num_samples_of_each_test_set_by_the_seed(tmp_path: Path) -> None:
    several = [texts(tmp_path / "a.jsonl", 50, "a"), texts(tmp_path / "b.jsonl", 3, "b")]
    data = {"test": {"type": "ConcatDataset", "datasets": several}, "validation": several[0]}

    def drawn(count: int | None, seed: int = 0) -> dict[str, list[str]]:
        loaded = load(data, tmp_path, do_predict=True, do_eval=True, num_samples=count, seed=seed)
        assert len(loaded.validation.items) == 50
        return {name: asked(test) for name, test in loaded.tests.items()}

    few, whole = drawn(5), drawn(None)
    assert [len(each) for each in few.values()] == [5, 3]
    assert few == drawn(5)
    assert few != drawn(5, seed=1)
    assert few["test_a"] == [text for text in whole["test_a"] if text in few["test_a"]]  # in the order of the file
    assert few["test_a"] != whole["test_a"][:5]
    assert drawn(50) == whole


def test_load_data_names_all_files_that_are_missing(tmp_path: Path) -> None:
    there = texts(tmp_path / "a.jsonl", 2)
    gone = [dict(there, filename=str(tmp_path / f"{name}.jsonl")) for name in ("b", "c", "d")]
    inner = {"type": "ConcatDataset", "datasets": [there, gone[1], {"type": "Subset", "dataset": gone[2], "first": 1}]}
    data = {"multitest": {"x": {"cfg": gone[0]}, "y": {"cfg": inner}, "z": {"cfg": gone[0]}}}
    with pytest.raises(DataError) as caught:
        load(data, tmp_path, do_predict=True)
    paths = ", ".join(str(tmp_path / f"{name}.jsonl") for name in ("b", "c", "d"))
    assert str(caught.value) == f"3 files of the test sets are missing: {paths}"
    shards = {"type": "Shards", "filename": str(tmp_path / "{00..09}.tar"), "questions": "q.json"}
    assert missing_files([shards, dict(shards, filename="s3://bucket/a.tar"), there]) == ["q.json"] * 2
    with pytest.raises(DataError) as caught:
        load({"test": gone[0]}, tmp_path, do_predict=True)
    assert str(tmp_path / "b.jsonl") in str(caught.value)


@pytest.mark.parametrize(
    ("section", "flag", "field"),
    [
        ("train", "do_train", "data_args.train"),
        ("validation", "do_eval", "data_args.validation"),
        ("test", "do_predict", "data_args.test"),
        ("multitest", "do_predict", "data_args.multitest.x.cfg"),
    ],
)
def test_load_data_refuses_a_dataset_without_items(section: str, flag: str, field: str, tmp_path: Path) -> None:
    empty = {"type": "Nothing"}
    data: dict[str, Any] = {section: {"x": {"cfg": empty}} if section == "multitest" else empty}
    with pytest.raises(ConfigError) as caught:
        load(data, tmp_path, **{flag: True})
    assert str(caught.value) == f"{field}: expected at least one item, found none"


@pytest.mark.parametrize("command", ["train", "eval", "predict"])
@pytest.mark.parametrize("content", ["", "\n\n", "[]"])
def test_an_empty_file_is_one_line_at_the_start(
    content: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("empty.json" if content == "[]" else "empty.jsonl")
    path.write_text(content)
    empty = {"type": "TextOnly", "filename": str(path)}
    config = write_config(tmp_path, data_args={"train": empty, "validation": empty, "test": empty})
    assert main([command, str(config), "--output_dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        (
            {"freeze": ["vision_tower", "connector", "language_model"]},
            "model_args: expected parameters to train, found none; leave a part out",
        ),
        ({"adapters": {"type": "lora", "targets": [], "r": 2}}, "targets"),
        ({"adapters": {"type": "lora", "r": 2}}, "targets"),
        ({"adapters": {"type": "full", "targets": []}}, "targets"),
        ({"adapters": {"type": "lora", "targets": ["conv9"], "r": 2}}, "conv9"),
        ({"adapters": {"type": "lora", "targets": ["language_model"], "r": 0}}, "r"),
        ({"dtype": "float16"}, "model_args.dtype: expected 'float32' (with training_args.fp16=True"),
    ],
)
def test_a_run_that_would_train_nothing_or_not_well_is_refused(
    model_args: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_stand_in(tmp_path / "base")
    config = write_config(tmp_path, model_args={"model_name_or_path": str(tmp_path / "base"), **model_args})
    assert main(["train", str(config), "--output_dir", str(tmp_path / "out")]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("ConfigError: ")
    assert message in line


def test_what_is_frozen_can_be_evaluated(tmp_path: Path) -> None:
    save_stand_in(tmp_path / "base")
    frozen = {"model_name_or_path": str(tmp_path / "base"), "freeze": ["vision_tower", "connector", "language_model"]}
    config = write_config(tmp_path, model_args=frozen)
    assert main(["eval", str(config), "--output_dir", str(tmp_path / "out")]) == 0


def test_predict_writes_a_file_for_each_dataset_of_an_instruct_flamingo_config(tmp_path: Path) -> None:
    """Its inference over datasets: names from the config, so many samples of each."""
    save_stand_in(tmp_path / "base")
    entries = []
    for name, count in (("short answers", 7), ("", 2)):
        path = tmp_path / f"data{count}.json"
        path.write_text(json.dumps([{"input": f"Count {n}.", "output": str(n)} for n in range(count)]))
        entries.append({"dataset_name": name, "json_path": str(path), "img_dir": "", "ratio": 1.0})
    (tmp_path / "mix.json").write_text(json.dumps(entries))
    mixture = {"type": "InstructFlamingoMixture", "filename": str(tmp_path / "mix.json")}
    config = write_config(
        tmp_path,
        model_args={"model_name_or_path": str(tmp_path / "base")},
        data_args={"test": mixture, "multitest": {}, "compute_metric": "ExactMatch"},
    )
    out = tmp_path / "out"
    assert main(["predict", str(config), "--output_dir", str(out), "--num_samples", "3"]) == 0
    found = {
        path.name: [json.loads(line)["key"] for line in path.read_text().splitlines()]
        for path in sorted(out.glob("*_extra_prediction.jsonl"))
    }
    assert {name: len(keys) for name, keys in found.items()} == {
        "test_data2_extra_prediction.jsonl": 2,
        "test_short_answers_extra_prediction.jsonl": 3,
    }
    for name, drawn in (("data2", None), ("short_answers", [{"num_samples": 3, "seed": 0, "of": 7}])):
        results = json.loads((out / f"test_{name}_results.json").read_text())
        assert results[f"test_{name}_count"] in (2, 3)
        assert results["about"]["data"].get("drawn") == drawn
        assert (out / f"test_{name}_report.html").exists()


def test_a_test_set_may_have_generation_arguments_of_its_own(tmp_path: Path) -> None:
    plain = texts(tmp_path / "a.jsonl", 3)
    entries = dict(short=dict(cfg=plain, gen_kwargs=dict(max_new_tokens=5)), usual=dict(cfg=plain))
    data = dict(multitest=entries, gen_kwargs=dict(max_new_tokens=20, num_beams=3))
    tests = load(data, tmp_path, do_predict=True).tests
    found = [dict(tests[f"multitest_{name}"].generation) for name in ("short", "usual")]
    assert [(each["max_new_tokens"], each["num_beams"]) for each in found] == [(5, 3), (20, 3)]
    entries["short"]["gen_kwargs"] = dict(max_new_token=5)
    config = str(write_config(tmp_path, data_args=dict(data, test=None)))
    for command in ("predict", "train"):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            assert main([command, config, "--output_dir", str(tmp_path / "out")]) == 1


def test_missing_files_are_those_of_datasets() -> None:
    similar = dict(type="rices", vision_tower="clip")
    few: dict[str, Any] = dict(
        type="FewShot", dataset=dict(type="TextOnly", filename="a.jsonl"), choose=similar, shots=1
    )
    few["demonstrations"] = dict(type="Instruct", filename="b.jsonl", regions=dict(codec=dict(type="bins")))
    assert missing_files(few) == ["a.jsonl", "b.jsonl"]
