"""Answers by ranking: the same scores one by one and together, and the files that an evaluation leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from mllm.config.data_args import Ranking
from mllm.conversation.collator import Collator
from mllm.conversation.packing import split_rounds
from mllm.errors import ConfigError, DataError, MllmError
from mllm.pipeline import ranking as pipeline
from mllm.pipeline.evaluate import Loader
from mllm.pipeline.finetune import main
from mllm.pipeline.ranking import Candidates, rank
from mllm.registry import DATASETS
from mllm.types import GroundTruth, Item, Prediction, Turn
from tests.launch.launching import LAUNCH, launch
from tests.pipeline.packed import LANGUAGE_MODELS, build
from tests.pipeline.tiny import SCENES, Items, write_config

COLOURS = ["red", "dark red", "blue", "a blue circle", "green"]


@pytest.fixture(scope="module")
def crowd() -> Items:
    """Questions about three images, in no order."""
    scenes = DATASETS.make(dict(SCENES, count=3, objects=[3, 3], questions_per_scene=3, seed=5))
    found = [question for n in range(3) for question in split_rounds(scenes[n])]
    return Items([found[n] for n in torch.randperm(len(found), generator=torch.Generator().manual_seed(0))])


def ranked(model: Any, processor: Any, items: Any, size: int, **options: Any) -> list[Prediction]:
    loader = Loader(collator=Collator(pad_token_id=processor.tokenizer.pad_token_id), batch_size=size)
    ranking = Ranking(**{"candidates": COLOURS, **options})
    return list(rank(model, items, processor, loader, Accelerator(cpu=True), ranking=ranking, description=""))


@pytest.mark.parametrize("name", ["llama", "mpt"])
def test_scores_are_the_loss_of_each_answer(name: str, crowd: Items) -> None:
    torch.manual_seed(0)
    _, processor, model = build(language_model={**LANGUAGE_MODELS[name], "initializer_range": 0.3})
    ways = ("mean", "total")
    found = {way: ranked(model, processor, crowd, 4, score=way, answer="It is <answer>.") for way in ways}
    for index, item in enumerate(crowd.items[:2]):
        for colour in COLOURS:
            (ids,) = processor.answer_ids(item, [f"It is {colour}."])
            turns = (*item.prompt, Turn(role="gpt", text=f"It is {colour}."))
            sample = processor.encode(Item(key="a", images=item.images, turns=turns), 0)
            start = int((sample.labels >= 0).nonzero()[0])
            assert sample.input_ids[start : start + len(ids)].tolist() == ids
            sample.labels[start + len(ids) :] = -100
            batch = Collator(pad_token_id=0)([sample])
            given = {key: batch[key] for key in batch if key not in ("index", "label_sources")}
            with torch.no_grad():
                total = -float(model(**given, num_items_in_batch=1).loss)
            assert found["total"][index].candidate_scores[colour] == pytest.approx(total, abs=2e-5)
            assert found["mean"][index].candidate_scores[colour] == pytest.approx(total / len(ids), abs=2e-5)
    for prediction in found["mean"]:
        scores = list(prediction.candidate_scores.values())
        assert scores == sorted(scores, reverse=True)
        assert prediction.text == next(iter(prediction.candidate_scores))
        assert set(prediction.candidate_scores) == set(COLOURS)
    assert [prediction.index for prediction in found["mean"]] == list(range(len(crowd)))


def test_scores_do_not_depend_on_the_batch(crowd: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    _, processor, model = build(language_model={**LANGUAGE_MODELS["llama"], "initializer_range": 0.3})
    together = ranked(model, processor, crowd, 6)
    monkeypatch.setattr(type(model), "supports_prefix_sharing", False)
    for size in (1, 4):
        for one, other in zip(ranked(model, processor, crowd, size), together, strict=True):
            assert one.candidate_scores == pytest.approx(other.candidate_scores, abs=1e-5)
    monkeypatch.setattr(pipeline, "KEPT_CANDIDATES", 2)
    fewer = ranked(model, processor, crowd, 4)
    assert all(len(prediction.candidate_scores) == 2 for prediction in fewer)
    assert [prediction.text for prediction in fewer] == [prediction.text for prediction in together]


def test_candidates_of_an_item(tmp_path: Path) -> None:
    item = Item(key="a:1", turns=(Turn(role="human", text="?"),), truth=GroundTruth(options=("cat", "dog", "cat")))
    assert Candidates(Ranking()).of(item) == ["cat", "dog"]
    assert Candidates(Ranking(candidates="letters")).of(item) == ["A", "B", "C"]
    assert Candidates(Ranking(candidates=["x", "y"])).of(item) == ["x", "y"]
    (tmp_path / "names.txt").write_text("tench\n\ngoldfish\n")
    (tmp_path / "names.json").write_text('["tench", "goldfish"]')
    for name in ("names.txt", "names.json"):
        assert Candidates(Ranking(candidates=str(tmp_path / name))).of(item) == ["tench", "goldfish"]
    bare = Item(key="a:2", turns=item.turns)
    with pytest.raises(DataError, match=r"a:2: truth.options: expected at least two options"):
        Candidates(Ranking()).of(bare)
    with pytest.raises(ConfigError, match=r"candidates: expected .* each once, found str 'x' twice"):
        Candidates(Ranking(candidates=["x", "y", "x"]))
    with pytest.raises(ConfigError, match=r"candidates: expected candidates with a word, found str ' '"):
        Candidates(Ranking(candidates=["x", " "]))
    with pytest.raises(ConfigError, match=r"none\.txt"):
        Candidates(Ranking(candidates=str(tmp_path / "none.txt")))
    for words, said in (
        ('["x", 1]', r"names\.json\b.*: expected a text, found int '1'"),
        ('["x", "\\ud800"]', r"names\.json.*half a"),
    ):
        (tmp_path / "names.json").write_text(words)
        with pytest.raises(MllmError, match=said):
            Candidates(Ranking(candidates=str(tmp_path / "names.json")))


def test_a_sharded_model_is_refused(crowd: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    _, processor, model = build()
    monkeypatch.setattr(pipeline, "in_step", lambda accelerator: True)
    with pytest.raises(ConfigError, match=r"data_args.ranking: expected a whole model in each process"):
        ranked(model, processor, crowd, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model and an evaluation by one process."""
    folder = tmp_path_factory.mktemp("ranked")
    counting = dict(SCENES, count=7, seed=3, tasks=["count"])
    ranking = dict(candidates=["1", "2", "3", "4"])
    tests = dict(
        numbers=dict(cfg=counting, compute_metric="RankedAccuracy", ranking=ranking),
        generated=dict(cfg=counting, compute_metric="ExactMatch"),
    )
    config = str(write_config(folder, data_args=dict(test=None, multitest=tests)))
    assert main([config, "--do_train", "True", "--max_steps", "1", "--output_dir", str(folder / "trained")]) == 0
    flags = [config, "--do_predict", "True", "--cfg-options", f"model_args.model_name_or_path={folder / 'trained'}"]
    assert main([*flags, "--output_dir", str(folder / "one")]) == 0
    return folder


@pytest.mark.slow
def test_two_processes_leave_the_files_of_one(folder: Path) -> None:
    flags = [str(folder / "one" / "config.py"), "--do_predict", "True", "--output_dir", str(folder / "two")]
    launch(*LAUNCH["ddp"], "tests/launch/runs.py", json.dumps([flags]))
    for prefix in ("multitest_numbers", "multitest_generated"):
        name = f"{prefix}_extra_prediction.jsonl"
        assert (folder / "one" / name).read_text() == (folder / "two" / name).read_text()
    lines = (folder / "one" / "multitest_numbers_extra_prediction.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert all(set(record["candidate_scores"]) == set("1234") for record in records)
    for record in records:
        assert record["candidate_scores"][record["text"]] == max(record["candidate_scores"].values())
    assert all(record["score"] == (record["text"] in record["target"]) for record in records)
    assert "candidate_scores" not in (folder / "one" / "multitest_generated_extra_prediction.jsonl").read_text()
    results = json.loads((folder / "one" / "multitest_numbers_results.json").read_text())
    assert results["about"]["ranking"] == {"candidates": ["1", "2", "3", "4"], "score": "mean", "answer": "<answer>"}
    assert results["headline"] == "multitest_numbers_top1"
    assert all(record["read_by"] == ["ranking"] for record in records)


def test_a_ranking_that_was_stopped_goes_on_with_its_scores(folder: Path) -> None:
    one, again = folder / "one", folder / "again"
    again.mkdir()
    name = "multitest_numbers_extra_prediction.jsonl"
    about = json.loads((one / "multitest_numbers_results.json").read_text())["about"]
    (again / "multitest_numbers_about.json.partial").write_text(json.dumps(about))
    kept = (one / name).read_text().splitlines(keepends=True)[:3]
    (again / f"{name}.partial").write_text("".join(kept))
    flags = ["--do_predict", "True", "--cfg-options", f"model_args.model_name_or_path={folder / 'trained'}"]
    assert main([str(folder / "tiny.py"), *flags, "--resume", "True", "--output_dir", str(again)]) == 0
    found, expected = ((path / name).read_text().splitlines() for path in (again, one))
    assert [json.loads(line)["text"] for line in found] == [json.loads(line)["text"] for line in expected]
    assert found[:3] == expected[:3]
    scores = [json.loads((path / "multitest_numbers_results.json").read_text()) for path in (again, one)]
    assert scores[0]["multitest_numbers_top5"] == scores[1]["multitest_numbers_top5"]
