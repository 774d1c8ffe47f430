"""Suites of `config/eval/`: each test set is known, asks questions that exist, and has a metric."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mllm.config.config import read
from mllm.registry import CODECS, DATASETS, METRICS

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "config" / "eval").glob("*.py"))
PROMPTS = sorted((ROOT / "config" / "questions" / "eval").glob("*.json"))


def sets(cfg: Any) -> Iterator[dict[str, Any]]:
    """The datasets inside a dataset's config, itself first."""
    yield cfg
    named = [cfg[name] for name in ("dataset", "demonstrations") if isinstance(cfg.get(name), dict)]
    for inner in (*cfg.get("datasets", ()), *named):
        yield from sets(inner)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_names_known_datasets_questions_and_metrics(path: Path) -> None:
    cfg = read(path).to_dict()
    data = cfg["data_args"]
    assert data["multitest"]
    for entry in data["multitest"].values():
        metric = METRICS.make(entry.get("compute_metric") or data["compute_metric"])
        assert metric.headline
        for dataset in sets(entry["cfg"]):
            DATASETS.find(dataset["type"])
            questions = dataset.get("questions")
            assert questions is None or (ROOT / questions).exists()
    if cfg["model_args"].get("codec"):
        CODECS.make(cfg["model_args"]["codec"])


@pytest.mark.parametrize("path", PROMPTS, ids=lambda path: path.stem)
def test_a_public_prompt_is_one_wording(path: Path) -> None:
    (prompt,) = json.loads(path.read_text(encoding="utf-8"))
    assert prompt.count("<image>") == 1
    assert prompt.count("<expr>") + prompt.count("<question>") == int(path.stem != "openflamingo_caption")


@pytest.mark.parametrize("name", ["openflamingo", "openflamingo_ranking"])
def test_the_suites_of_openflamingo_have_one_number_of_shots(name: str) -> None:
    data = read(ROOT / "config" / "eval" / f"{name}.py").to_dict()["data_args"]
    assert {entry["cfg"]["shots"] for entry in data["multitest"].values()} == {4}
    assert {entry["cfg"]["text_only"] for entry in data["multitest"].values()} == {2}
