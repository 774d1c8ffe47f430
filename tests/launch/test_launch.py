"""Two processes give what one gives: training losses, scores, saved models; replicated (DDP) and sharded (FSDP2,
DeepSpeed's ZeRO-2 and ZeRO-3).
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from accelerate.utils import merge_fsdp_weights
from PIL import Image
from safetensors.torch import load_file

from mllm.config.config import read
from mllm.pipeline.finetune import main
from mllm.pipeline.train_data import SeededEpochSampler, TrainDataset
from mllm.registry import DATASETS
from tests.launch import runs
from tests.launch.launching import LAUNCH, NEEDS_DEEPSPEED, ON_CPU, ROOT, fork_ranks, launch
from tests.pipeline.tiny import CONFIG, SCENES, losses, save_stand_in, write_config
from tests.stand_ins import RECORDS

TEXTS = [f'{{"instruction": "Count to {n}.", "output": "{list(range(1, n + 1))}"}}' for n in range(2, 22)]
EVALUATED = ["--do_train", "--eval_strategy", "steps", "--eval_steps", "3"]
EVALUATED += ["--load_best_model_at_end", "--greater_is_better", "True"]
"""The best model is the one of the highest loss, as a rule that of the first of two evaluations."""


LORA = dict(
    adapters=dict(type="lora", targets=["language_model"], r=4, unfrozen=["connector", "embeddings"]),
    learning_rate_groups={"connector": 1e-4, "adapters": 1e-2},
)
# the storage that FSDP shards as it does the other weights
FOUR_BITS = dict(quantization=dict(type="bitsandbytes", storage_dtype="float32"))
RECIPES: dict[str, dict[str, Any]] = {
    "everything": dict(language_model=dict(CONFIG["model_args"]["language_model"], tie_word_embeddings=True)),
    "untied": {},
    "connector": dict(adapters=dict(type="full", targets=["connector"])),
    "lora": {**LORA, **(FOUR_BITS if find_spec("bitsandbytes") else {})},
}
FULL = ("everything", "untied")
"""All weights are trained, from random ones."""
FAST = ("forked", "everything")
"""Two processes that `accelerate launch` has not started, since it and they would import for most of their time."""


def why_not(way: str, recipe: str) -> str:
    """Why two processes do not run a recipe this way, "" where they do."""
    if recipe == "lora" and way in ON_CPU:
        return "DeepSpeed does not go on from a checkpoint of a quantised model"
    return "what is replicated is tried with tied weights" if recipe == "untied" and way == "ddp" else ""


RUNS = [
    pytest.param(FAST, id="-".join(FAST)),
    *(
        pytest.param(
            (way, recipe),
            marks=[pytest.mark.slow, *([NEEDS_DEEPSPEED] if way in ON_CPU else [])],
            id=f"{way}-{recipe}",
        )
        for way in LAUNCH
        for recipe in RECIPES
        if not why_not(way, recipe)
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a config for each recipe.

    Half the items are text only, so that a rank often has no image while the other has one.
    """
    folder = tmp_path_factory.mktemp("launch")
    (folder / "texts.jsonl").write_text("\n".join(TEXTS), encoding="utf-8")
    save_stand_in(folder / "base")
    for recipe, model_args in RECIPES.items():
        (folder / recipe).mkdir()
        base = {} if recipe in FULL else {"model_name_or_path": str(folder / "base")}
        write_config(
            folder / recipe,
            model_args={**model_args, **base},
            data_args=dict(
                train=train_set(folder),
                gen_kwargs=dict(max_new_tokens=4, min_new_tokens=1, do_sample=recipe == "everything", top_k=20),
            ),
            training_args=dict(
                use_cpu=True,
                max_steps=6,
                per_device_train_batch_size=1,
                per_device_eval_batch_size=2,
                gradient_accumulation_steps=2,
                learning_rate=1e-3,
                logging_steps=1,
                save_strategy="steps",
                save_steps=3,
                disable_tqdm=True,
                report_to="none",
            ),
        )
    return folder


def train_set(folder: Path) -> dict[str, Any]:
    texts = dict(type="TextOnly", filename=str(folder / "texts.jsonl"))
    return dict(type="ConcatDataset", datasets=[dict(SCENES, count=20), texts])


@pytest.fixture(scope="module", params=RUNS)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """How two processes are launched, and a recipe."""
    return request.param


@pytest.fixture(scope="module")
def recipe(case: tuple[str, str]) -> str:
    return case[1]


@pytest.fixture(scope="module")
def one(folder: Path, recipe: str) -> Path:
    """One process, with the batch that two have together."""
    out = folder / recipe / "one"
    if not out.exists():
        flags = ["--do_train", "True", "--do_eval", "True", "--do_predict", "True", "--output_dir", str(out)]
        assert main([str(folder / recipe / "tiny.py"), *flags, "--per_device_train_batch_size", "2"]) == 0
    return out


@pytest.fixture(scope="module")
def two(case: tuple[str, str], folder: Path) -> Path:
    """Two processes: a whole run, then a second one that goes on from the first one's half, then a third that only
    evaluates the saved model, then a fourth that evaluates while it trains.
    """
    way, recipe = case
    config, out = str(folder / recipe / "tiny.py"), folder / recipe / way
    also = ON_CPU.get(way, [])
    # a checkpoint of an adapted model is a folder like the one that is saved at the end
    loaded = ["--cfg-options", f"model_args.model_name_or_path={out if recipe in FULL else out / 'checkpoint-6'}"]
    flags = ["--do_train", "True", "--do_eval", "True", "--do_predict", "True", "--output_dir", str(out)]
    steps: list[Any] = [
        [config, *also, *flags],
        {"cut_off": str(out)},
        [config, *also, "--do_train", "True", "--resume_from_checkpoint", "auto", "--output_dir", str(out)],
        [config, *also, "--do_eval", "True", *loaded, "--output_dir", f"{out}_loaded"],
        [config, *also, *EVALUATED, "--output_dir", f"{out}_evaluated"],
    ]
    if way == "forked":
        fork_ranks(folder, runs.run, steps)
    else:
        launch(*LAUNCH[way], "tests/launch/runs.py", json.dumps(steps))
    return out


def test_ranks_meet_batches_with_and_without_images(folder: Path) -> None:
    """What the other tests rest on: in some step one rank has an image and the other has none."""
    items = DATASETS.make(train_set(folder))
    order = list(SeededEpochSampler(TrainDataset(items, None), seed=0))  # type: ignore[arg-type]
    mixed = [(items[a].images == ()) != (items[b].images == ()) for a, b in zip(order[::2], order[1::2], strict=True)]
    assert any(mixed[:12])


def test_two_processes_train_with_the_losses_of_one(one: Path, two: Path) -> None:
    """Also across a resumption: the log of the second run holds the steps of the first one before its checkpoint."""
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)


def test_two_processes_tell_the_loss_of_each_dataset_as_one(one: Path, two: Path) -> None:
    for name in ("loss/texts", "loss/scenes_seed_0"):
        found = losses(two, name)
        assert found
        assert found == pytest.approx(losses(one, name), abs=1e-4)


def test_two_processes_have_the_gradient_norms_of_one(one: Path, two: Path) -> None:
    found = [losses(folder, "grad_norm") for folder in (one, two)]
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_evaluation_during_training_leaves_training_alone_and_scores_as_one_process(
    one: Path, two: Path, recipe: str
) -> None:
    evaluated = two.parent / f"{two.name}_evaluated"
    assert losses(evaluated) == losses(two)
    results = json.loads((evaluated / "eval-6" / "eval_results.json").read_text())
    assert results["eval_loss"] == pytest.approx(
        json.loads((one / "eval_results.json").read_text())["eval_loss"], abs=1e-4
    )
    answers = "eval_extra_prediction.jsonl"
    assert (evaluated / "eval-6" / answers).read_text() == (one / answers).read_text()


def test_the_best_model_is_saved_whole(two: Path, recipe: str) -> None:
    evaluated = two.parent / f"{two.name}_evaluated"
    losses_by_step = losses(evaluated, "eval_loss")
    best_step, other_step = sorted(losses_by_step, key=lambda step: losses_by_step[step], reverse=True)
    name = {**dict.fromkeys(FULL, "model.safetensors"), "connector": "trained_in_full.safetensors"}.get(
        recipe, "adapter_model.safetensors"
    )
    for shards in evaluated.glob("checkpoint-*/pytorch_model_fsdp_0"):
        merge_fsdp_weights(str(shards), str(shards.parent))
    best, other, saved = (
        load_file(evaluated / folder / name) for folder in (f"checkpoint-{best_step}", f"checkpoint-{other_step}", ".")
    )
    assert all(saved[name].equal(best[name]) for name in saved)
    assert not all(saved[name].equal(other[name]) for name in saved)


def test_two_processes_count_the_work_of_one(one: Path, two: Path) -> None:
    counted = [json.loads((folder / "trainer_state.json").read_text())["total_flos"] for folder in (one, two)]
    assert counted[0] > 0
    assert counted[1] == pytest.approx(counted[0], rel=1e-3)


@pytest.mark.parametrize("prefix", ["eval", "test", "multitest_boxes"])
def test_every_item_is_answered_once_and_as_by_one_process(one: Path, two: Path, prefix: str) -> None:
    expected = (one / f"{prefix}_extra_prediction.jsonl").read_text()
    assert (two / f"{prefix}_extra_prediction.jsonl").read_text() == expected
    scores = [json.loads((folder / f"{prefix}_results.json").read_text()) for folder in (one, two)]
    for name, value in scores[0].items():
        if isinstance(value, float) and not name.endswith(("runtime", "per_second")):
            assert scores[1][name] == pytest.approx(value, abs=1e-4), name
    for name in ("intervals", "parts"):
        assert scores[1].get(name) == scores[0].get(name)


def test_a_saved_model_scores_the_same_when_loaded_again(two: Path) -> None:
    trained = json.loads((two / "eval_results.json").read_text())
    loaded = json.loads((two.parent / f"{two.name}_loaded" / "eval_results.json").read_text())
    assert loaded["eval_loss"] == pytest.approx(trained["eval_loss"], abs=1e-4)


def test_a_checkpoint_of_fsdp2_is_shards_and_of_adapters_the_adapters(recipe: str, two: Path) -> None:
    """Each rank has written its own part, of the weights where all are trained; the base is nowhere."""
    names = {str(path.relative_to(two / "checkpoint-3")) for path in (two / "checkpoint-3").rglob("*")}
    parts = {"__0_0.distcp", "__1_0.distcp"} if two.name == "fsdp2" else set()
    assert {path.name for path in two.glob("checkpoint-3/optimizer_0/*.distcp")} == parts
    if recipe in FULL:
        assert {path.name for path in two.glob("checkpoint-3/pytorch_model_fsdp_0/*.distcp")} == parts
    else:
        assert "trained_in_full.safetensors" in names
        assert ("adapter_model.safetensors" in names) == (recipe == "lora")
        assert not any(name.startswith(("pytorch_model", "model")) for name in names)


@pytest.mark.slow
def test_planned_rows_of_two_processes_have_the_losses_of_their_samples_in_one(folder: Path) -> None:
    """A window of one step holds the items that one process would take together, now dealt by what they cost: the
    processes have unequally many. The second run goes on in mid-epoch.
    """
    one, two = folder / "unpacked", folder / "shared"
    training = dict(max_steps=6, per_device_train_batch_size=6, gradient_accumulation_steps=2, save_strategy="steps")
    training |= dict(save_steps=3, learning_rate=1e-3)
    config = write_config(folder, data_args=dict(train=train_set(folder)), training_args=training)
    assert main([str(config), "--do_train", "True", "--output_dir", str(one)]) == 0
    flags = ["--do_train", "True", "--per_device_train_batch_size", "3", "--output_dir", str(two)]
    flags += ["--cfg-options", "data_args.collator_kwargs={'packing': 'shared', 'window': 1}"]
    steps: list[Any] = [[str(config), *flags], {"cut_off": str(two)}]
    steps += [[str(config), "--resume_from_checkpoint", "auto", *flags]]
    launch(*LAUNCH["ddp"], "tests/launch/runs.py", json.dumps(steps))
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)


@pytest.mark.slow
def test_the_7b_recipe_runs_sharded_on_a_stand_in(tmp_path: Path) -> None:
    """The commands of the README, flags included; the checkpoint and the annotation files are small ones."""
    checkpoint, images, out = tmp_path / "checkpoint", tmp_path / "images", tmp_path / "out"
    save_stand_in(checkpoint)
    images.mkdir()
    Image.new("RGB", (32, 24), "red").save(images / "a.jpg")
    lines = tmp_path / "rec.jsonl"
    lines.write_text(f"{json.dumps(RECORDS['REC'])}\n" * 4, encoding="utf-8")
    files = [f"filename={lines}", f"image_folder={images}"]
    launch(
        *["--config_file", "accelerate_config/default_config.yaml", "--num_processes", "2"],
        *["--main_process_port", "23786", "tests/launch/fsdp_cpu.py"],
        *["mllm/pipeline/finetune.py", "config/rec_llava_v1_7b_fsdp.py", "--use_cpu", "--output_dir", str(out)],
        *["--num_train_epochs", "1", "--learning_rate", "4e-5", "--per_device_train_batch_size", "2"],
        *["--cfg-options", f"model_args.model_name_or_path={checkpoint}"],
        *[f"data_args.train.dataset.{file}" for file in files],
    )
    splits = read(ROOT / "config/rec_llava_v1_7b_fsdp_eval.py").to_dict()["data_args"]["multitest"]
    launch(
        *["--config_file", "accelerate_config/cpu.yaml", "--main_process_port", "23786"],
        *["mllm/pipeline/finetune.py", "config/rec_llava_v1_7b_fsdp_eval.py", "--use_cpu"],
        *["--output_dir", str(out)],
        *["--cfg-options", f"model_args.model_name_or_path={out}", "data_args.gen_kwargs.max_new_tokens=4"],
        *[f"data_args.multitest.{split}.cfg.{file}" for split in splits for file in files],
    )
    for split in splits:
        results = json.loads((out / f"multitest_{split}_results.json").read_text())
        assert results[f"multitest_{split}_count"] == 4
