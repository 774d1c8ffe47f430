"""`mllm model show`: the tree, and the table of memory, of configs whose weights are not there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mllm.cli import main
from mllm.commands.model.images import Assumed
from mllm.commands.model.module_tree import module_tree
from mllm.commands.model.show import Estimate, estimates, make_batch, show_model, skeleton
from mllm.config.config import read
from mllm.errors import ConfigError
from tests.commands.model.arguments import args_of
from tests.pipeline.tiny import CONFIG, save_stand_in, write_config

ROOT = Path(__file__).parents[3]
IMAGE = Assumed(size=(640, 480), why="a test")
LORA = {"type": "lora", "targets": ["language_model"], "r": 4, "unfrozen": ["connector"]}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models that hold config.json alone."""
    folder = tmp_path_factory.mktemp("bare")
    for kind in ("llava", "seq2seq"):
        save_stand_in(folder / "whole", kind)
        (folder / kind).mkdir()
        shutil.copy(folder / "whole" / "config.json", folder / kind)
    return folder


def values(text: str, row: str) -> list[float]:
    """The numbers of a row of the memory table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{row}  ")]
    return [float(number) for number in re.findall(r"[\d.]+", line)]


def test_a_config_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, training_args={**CONFIG["training_args"], "optim": "sgd"})
    assert main(["model", "show", str(config), "--devices", "2", "--batch-size", "3", "--length", "200"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^      layers\.0-1 \(2 x LlamaDecoderLayer\) ", text, re.MULTILINE)
    assert re.search(r"q_proj \(Linear\) +\[16, 16\] +256 +float32 +yes$", text, re.MULTILINE)
    assert (
        "3 rows of 200 tokens, an image in each, optim sgd, fp32\nImages: 4 tokens each, whatever their size\n" in text
    )
    assert "each of 2" in text
    assert values(text, "optimizer") == [0, 0]
    assert values(text, "weights")[0] == pytest.approx(2 * values(text, "weights")[1], abs=0.02)
    assert values(text, "total (as configured)")[0] > values(text, "total, checkpointed")[0]


def test_a_tokenizer_that_is_yet_to_be_trained_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", str(write_config(tmp_path))]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert re.fullmatch(r"tokenizer: trained on data_args.train, which may give fewer; shown with 4\d\d tokens", first)
    assert not second
    wrong = "model_args.tokenizer.vocab_size=few"
    assert main(["model", "show", str(write_config(tmp_path)), "--cfg-options", wrong]) == 1
    assert "model_args.tokenizer.vocab_size: expected a whole number" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_and_tokenizer_may_be_missing(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, config, rows in (("llava", "rec_llava_v1_7b_fsdp", 4), ("seq2seq", "flan_t5_small_bf16", 8)):
        options = [f"model_args.model_name_or_path={bare / kind}", "data_args.max_length=256"]
        path = str(ROOT / "config" / f"{config}.py")
        assert main(["model", "show", path, "--cfg-options", *options]) == 0, capsys.readouterr().err
        assert f"{rows} rows of 256 tokens" in capsys.readouterr().out


@pytest.mark.slow
def test_adapters_on_few_bits(bare: Path) -> None:
    pytest.importorskip("bitsandbytes")
    cfg = read(ROOT / "config" / "flan_t5_small_int8_lora.py").to_dict()
    cfg["model_args"]["model_name_or_path"] = str(bare / "seq2seq")
    text = show_model(cfg, devices=2, rows=2, length=32)
    assert re.search(r"q \(Linear\) +\[32, 32\] +2,048 +9\.0 bit +LoRA$", text, re.MULTILINE)
    assert re.search(r"k \(Linear\) +\[32, 32\] +1,024 +9\.0 bit +no$", text, re.MULTILINE)
    assert re.search(r"wo \(Linear\) +\[32, 64\] +2,048 +float32 +no$", text, re.MULTILINE)


def test_the_tree_counts_every_parameter_once() -> None:
    _, model = skeleton({**CONFIG["model_args"], "adapters": LORA})
    rows = module_tree(model)
    assert rows[0].parameters == sum(parameter.numel() for parameter in model.parameters())
    assert rows[0].parameters == sum(row.parameters for row in rows if row.depth == 1)
    assert {row.name: row.trains for row in rows if row.depth == 1} == {
        "vision_tower": "no",
        "language_model": "LoRA",
        "connector": "yes",
    }


def test_equal_neighbours_are_told_once_and_tied_parameters_too() -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(2, 4)])
    model.blocks = nn.ModuleList([block, nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))])
    model.head = model.layers[3]
    model.frozen = nn.Linear(1, 1).requires_grad_(False)
    found = [(row.depth, row.name, row.kind, row.shape, row.parameters, row.trains) for row in module_tree(model)]
    assert found == [
        (0, "Module", "", "", 124, "partly"),
        (1, "layers.0-2", "3 x Linear", "[2, 4]", 30, "yes"),
        (1, "layers.3", "Linear", "[4, 2]", 12, "yes"),
        (1, "blocks.0-1", "2 x Sequential", "", 80, "yes"),
        (2, "0", "Linear", "[4, 4]", 20, "yes"),
        (2, "2", "Linear", "[4, 4]", 20, "yes"),
        (1, "head", "Linear", "[4, 2]", 0, "tied"),
        (1, "frozen", "Linear", "[1, 1]", 2, "no"),
    ]


def test_rows_have_the_length_asked_for() -> None:
    processor, _ = skeleton(CONFIG["model_args"])
    batch = make_batch(processor, 3, 150, IMAGE)
    assert batch["input_ids"].shape == batch["labels"].shape == (3, 150)
    assert len(batch["pixels"]) == 3
    answer = (batch["labels"] >= 0).sum(1)
    words = 150 - int((batch["input_ids"][0] == processor.image_token_id).sum())
    assert torch.all((answer - words / 2).abs() < 20)
    with pytest.raises(
        ConfigError, match=r"--length: expected at least \d+ tokens, as a row has \d+ before any words, found 5"
    ):
        make_batch(processor, 3, 5, IMAGE)


@pytest.mark.slow
def test_half_precision_and_shards_take_less() -> None:
    found: list[tuple[Estimate, Estimate]] = []
    for half in (None, torch.bfloat16):
        processor, model = skeleton(CONFIG["model_args"])
        found.append(estimates(model, make_batch(processor, 2, 150, IMAGE), args_of(), devices=4, half=half))
    (alone, sharded), (mixed, mixed_sharded) = found
    assert sharded.activations == alone.activations
    assert sharded.weights < alone.weights / 3
    assert mixed.weights == alone.weights
    assert mixed_sharded.activations < mixed.activations  # no copies of the weights by autocast
    assert 2 * mixed_sharded.gathered == sharded.gathered
    assert (alone.gathered, mixed.gathered) == (0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["model_args.model_name_or_path=/no/such"],
            "/no/such: expected a local checkpoint with its tokenizer, found no such folder",
        ),
        (["model_args.type=lava"], "did you mean 'llava'"),
        (
            ["training_args.optim=apollo_adamw"],
            "training_args.optim: expected a tested optimizer, found str 'apollo_adamw'",
        ),
        (
            ["model_args.freeze=[vision_tower,connector,language_model]"],
            "model_args.freeze: expected parts left to train, found none; leave a part out of it",
        ),
    ],
)
def test_what_a_user_can_mend(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Any = str(write_config(tmp_path))
    assert main(["model", "show", config, "--cfg-options", *options]) == 1
    assert message in capsys.readouterr().err
