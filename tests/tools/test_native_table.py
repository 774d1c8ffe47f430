"""The table of docs/native.md: it names every type, and its verdicts come from runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.marks import of_this_transformers
from tools.native.check import THINGS, Checked, Failed, said, verdicts
from tools.native.run import ALL, check_all
from tools.native.sizes import tiny
from tools.native.stand_ins import KINDS, TYPES, save_stand_in
from tools.native_table import BEGIN, END, PAGE, brief, reasons, rows, wanted, with_table

ROOT = Path(__file__).parents[2]
YES: dict[str, str] = dict.fromkeys(THINGS, "yes")
SAMPLE = ("aya_vision", "deepseek_vl", "glm46v", "llava_onevision", "paddleocr_vl", "qwen3_5")


@of_this_transformers
def test_the_page_names_every_type_that_transformers_lists() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    table = page[page.index(BEGIN) : page.index(END)]
    assert re.findall(r"^\| `([\w.-]+)` \|", table, re.MULTILINE) == ["model_type", *TYPES]


@of_this_transformers
def test_every_type_has_its_stand_in() -> None:
    assert set(KINDS) == set(TYPES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_listed_family_does_all_that_is_asked_of_it(tmp_path: Path) -> None:
    assert dict(verdicts("llava", tmp_path)) == YES


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", SAMPLE)
def test_types_of_every_kind_train_and_answer(model_type: str, tmp_path: Path) -> None:
    found = dict(verdicts(model_type, tmp_path))
    assert {thing: found.get(thing) for thing in ("trains", "LoRA", "QLoRA", "evaluates")} == {
        **{"trains": "yes", "LoRA": "yes", "QLoRA": "yes", "evaluates": "yes"}
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_model_that_computes_otherwise_is_found_out(tmp_path: Path) -> None:
    checked = Checked(save_stand_in("llava", tmp_path))
    head = checked.own.get_output_embeddings().weight
    head.data = head.data.roll(1, 0)  # a constant added to a vector of its tower is lost in the next norm
    with pytest.raises(Failed, match="other logits than its own"):
        checked.same_logits(*checked.built, checked.items[0])
    with pytest.raises(Failed, match="other answers than its own"):
        checked.evaluates()


def test_a_failure_of_any_kind_is_a_verdict() -> None:
    def fails() -> None:
        raise RuntimeError("shapes differ")

    assert said(fails) == "RuntimeError: shapes differ"
    assert said(lambda: None) == "yes"


def test_a_type_that_hangs_or_dies_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import time

    def stub(name: str, folder: Path) -> Iterator[tuple[str, str]]:
        yield "trains", "yes"
        if name == "hangs":
            time.sleep(60)
        if name == "dies":
            os._exit(9)
        yield from YES.items()

    monkeypatch.setattr("tools.native.run.verdicts", stub)
    assert dict(check_all(["hangs"], workers=1, limit=1))["hangs"]["LoRA"] == "took longer than 1 s"
    found = dict(check_all(["dies", "works"], workers=2, limit=60))
    assert found["works"] == YES
    assert found["dies"] == {**dict.fromkeys(THINGS, "its process ended"), "trains": "yes"}


def test_sizes_are_tiny_and_fit_each_other() -> None:
    config = {
        **{"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 4},
        **{"layer_types": ["full", "full", "window", "full"], "model_type": "x", "name": "y", "rope_parameters": {}},
        "vision_config": {"hidden_size": 1152, "depth": 27, "patch_size": 14, "deepstack_visual_indexes": [8, 16]},
    }
    found = tiny(config)
    assert found["hidden_size"] % found["num_attention_heads"] == 0
    assert found["num_attention_heads"] % found["num_key_value_heads"] == 0
    assert found["layer_types"] == ["full", "window"]
    assert len(found["layer_types"]) == found["num_hidden_layers"]
    assert found["vision_config"]["deepstack_visual_indexes"] == [found["vision_config"]["depth"] - 1]
    assert (found["model_type"], found["name"]) == ("x", "y")


def test_reasons_are_given_once_and_what_is_needed_first() -> None:
    verdicts = {**YES, "packs": "no masks", "shares": "no masks"}
    assert reasons(verdicts) == "packs, shares: no masks"
    assert reasons({**verdicts, "with": "timm"}) == "needs timm; packs, shares: no masks"
    assert reasons({**YES, "with": "timm"}) == "needs timm"
    assert reasons({ALL: "no processor"}) == "no processor"
    assert wanted({ALL: "it wants the torchvision library"}) == ["torchvision"]
    assert brief("/tmp/x/y/config.json: a | b") == r"config.json: a \| b"
    assert len(brief("long " * 100)) <= 140


def test_the_table_takes_its_place_in_the_page() -> None:
    table = "\n".join(rows({"a": YES, "b": {ALL: "no processor"}}))
    page = with_table(f"before\n{BEGIN}\nold\n{END}\nbehind\n", table)
    assert page == f"before\n{BEGIN}\n\n{table}\n\n{END}\nbehind\n"
    assert "| `b` |" in table
    assert table.startswith("Of 2 types: trains 1, ")
    with pytest.raises(ValueError, match="lacks"):
        with_table("no marks", table)
