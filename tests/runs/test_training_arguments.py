"""Training arguments do in a run what transformers says of them. `SHOWN` says which test shows which."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from transformers.integrations import integration_utils
from transformers.utils import logging as library_logging

from mllm.cli import main
from mllm.config import arguments
from mllm.config.config import read
from mllm.config.honoured import HONOURED
from mllm.errors import ConfigError
from mllm.models.adapters.param_groups import ParamGroupOptions
from mllm.pipeline import build as builder
from mllm.pipeline.evaluate import Loader
from mllm.pipeline.monitor import Bar
from mllm.pipeline.optimization import check_training
from mllm.pipeline.trainer import Trainer
from tests.pipeline.tiny import losses, write_config

SHOWN = {
    "tests/pipeline/tiny.py": "use_cpu max_steps",
    "tests/pipeline/test_finetune.py": "do_train do_eval do_predict output_dir",
    "tests/pipeline/test_resume.py": "resume_from_checkpoint",
    "tests/pipeline/test_best_model.py": (
        "eval_strategy eval_steps eval_delay eval_on_start load_best_model_at_end metric_for_best_model "
        "greater_is_better predict_with_generate save_strategy"
    ),
    "tests/runs/test_training_arguments.py": (
        "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 "
        "adam_beta2 adam_epsilon max_grad_norm per_device_train_batch_size gradient_accumulation_steps "
        "num_train_epochs dataloader_drop_last seed data_seed full_determinism train_sampling_strategy "
        "neftune_noise_alpha torch_empty_cache_steps auto_find_batch_size bf16 fp16 tf32 activation_checkpointing "
        "activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs torch_compile "
        "torch_compile_backend torch_compile_mode dataloader_num_workers dataloader_pin_memory "
        "dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context "
        "dataloader_in_order logging_strategy logging_steps logging_first_step log_level "
        "disable_tqdm include_num_input_tokens_seen report_to run_name project trackio_space_id trackio_bucket_id "
        "trackio_static_space_id debug skip_memory_metrics per_device_eval_batch_size prediction_loss_only save_steps "
        "save_total_limit save_only_model ignore_data_skip restore_callback_states_from_checkpoint accelerator_config"
    ),
    "tests/launch/test_arguments.py": (
        "average_tokens_across_devices ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
        "ddp_static_graph ddp_backend ddp_timeout log_on_each_node log_level_replica"
    ),
}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(HONOURED))
def test_a_test_sets_every_honoured_argument(name: str) -> None:
    (path,) = [path for path, names in SHOWN.items() if name in names.split()]
    assert (ROOT / path).read_text().count(name) > (path == "tests/runs/test_training_arguments.py")


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def build(out: str = "out", **given: Any) -> Trainer:
        """Of a run of two steps of four samples, with these arguments."""
        config = write_config(tmp_path)
        flags = {"output_dir": str(tmp_path / out), "max_steps": 2, "do_train": True, **given}
        cfg = read(config, flags=flags)
        args = arguments.build_training_arguments(cfg.training_args.to_dict())
        torch.manual_seed(args.seed)
        return builder.build(cfg.to_dict(), args)

    return build


def logged(trainer: Trainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def trained(trainer: Trainer) -> Trainer:
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """What a run of two steps without further arguments logs, in a list for each name."""
    folder = tmp_path_factory.mktemp("plain")
    flags = ["--max_steps", "2", "--output_dir", str(folder / "out")]
    assert main(["train", str(write_config(folder)), *flags]) == 0
    return {name: list(losses(folder / "out", name).values()) for name in ("loss", "grad_norm")}


def test_the_optimizer_and_its_schedule(trainer: Any) -> None:
    run = trained(
        trainer(
            optim="adamw_torch",
            learning_rate=0.01,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr": 0.004},
            warmup_steps=2,
            weight_decay=0.1,
            adam_beta1=0.8,
            adam_beta2=0.9,
            adam_epsilon=1e-6,
            max_steps=5,
        )
    )
    groups = run.optimizer.param_groups  # type: ignore[union-attr]
    assert {(*group["betas"], group["eps"]) for group in groups} == {(0.8, 0.9, 1e-6)}
    assert {group["weight_decay"] for group in groups} == {0.1, 0.0}
    assert logged(run, "learning_rate") == pytest.approx([0.0, 0.005, 0.01, 0.0085, 0.0055], abs=1e-6)


def test_a_group_with_a_rate_learns_beside_others_without(tmp_path: Path, trainer: Any) -> None:
    run = trainer(learning_rate=0.0)
    run.rates = ParamGroupOptions(learning_rate_groups={"connector": 0.1})
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    trained(run)
    moved = {name for name, weight in run.model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved
    assert all("connector" in name for name in moved)


def test_rates_of_all_groups_that_are_0_are_refused_at_the_start(trainer: Any) -> None:
    run = trainer(learning_rate=0.1)
    run.rates = ParamGroupOptions(learning_rate_groups={"connector": 0, "vision_tower": 0, "language_model": 0})
    with pytest.raises(ConfigError, match="expected a rate above 0 for some parameter"):
        run.train()


def test_a_warm_up_that_does_not_end_is_said(trainer: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="mllm.pipeline.optimization"):
        trained(trainer(warmup_steps=9))
    assert "warmup_steps is 9, but the run has only 2 steps: it never reaches its full learning rate" in caplog.text


def test_a_run_names_what_has_no_effect(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--max_steps", "1", "--eval_steps", "10", "--output_dir", str(tmp_path / "out")]
    assert main(["train", str(write_config(tmp_path)), *flags]) == 0
    assert "training_args.eval_steps has no effect: it needs eval_strategy='steps'" in capfd.readouterr().err


def test_gradients_are_clipped_before_a_step_with_momentum(trainer: Any) -> None:
    """Without accumulation of the first step the second one would be as long as the first."""
    run = trainer(optim="sgd", optim_args="momentum=0.5", learning_rate=1.0, max_grad_norm=0.01, max_steps=1,
                  lr_scheduler_type="constant")  # fmt: skip
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    trained(run)
    moved = sum(((weight - before[name]) ** 2).sum() for name, weight in run.model.named_parameters())
    assert float(moved**0.5) == pytest.approx(0.01, rel=1e-3)
    assert {group["momentum"] for group in run.optimizer.param_groups} == {0.5}
    assert logged(run, "grad_norm")[0] > 0.02


def test_a_step_is_the_same_in_parts(trainer: Any, plain: dict[str, list[float]]) -> None:
    parts = trained(trainer(per_device_train_batch_size=2, gradient_accumulation_steps=2))
    for name in ("loss", "grad_norm"):
        assert logged(parts, name) == pytest.approx(plain[name], rel=1e-4)


@pytest.mark.parametrize(("drop", "steps"), [(False, 4), (True, 2)])
def test_epochs_have_all_items_or_those_of_full_steps(trainer: Any, drop: bool, steps: int) -> None:
    run = trained(trainer(max_steps=-1, num_train_epochs=2, per_device_train_batch_size=39, dataloader_drop_last=drop))
    assert run.state.global_step == steps


def test_seeds(trainer: Any, plain: dict[str, list[float]]) -> None:
    runs = [trained(trainer(max_steps=1, **given)) for given in ({"seed": 1}, {"data_seed": 1})]
    assert len({plain["loss"][0], *(logged(run, "loss")[0] for run in runs)}) == 3
    seed, data, neither = (list(run._get_train_sampler()) for run in (*runs, trainer()))
    assert seed == data != neither


def test_the_order_of_the_dataset(trainer: Any) -> None:
    assert list(trainer(train_sampling_strategy="sequential")._get_train_sampler()) == list(range(40))


@pytest.fixture
def determinism() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


def test_full_determinism(trainer: Any, determinism: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "ASCEND_LAUNCH_BLOCKING", "HCCL_DETERMINISTIC"):
        monkeypatch.setenv(name, "")
    for name in ("FLASH_ATTENTION_DETERMINISTIC",):
        monkeypatch.setenv(name, "")
    trainer(full_determinism=True)
    assert torch.are_deterministic_algorithms_enabled()


def test_noise_on_embeddings_in_training_alone(trainer: Any, plain: dict[str, list[float]]) -> None:
    noisy = trained(trainer(max_steps=1, neftune_noise_alpha=5.0))
    assert logged(noisy, "loss") != plain["loss"][:1]
    ids = torch.tensor([[5, 6, 7]])
    embed = noisy.model.train().get_input_embeddings()
    assert torch.equal(embed(ids), embed(ids))


def test_a_batch_too_large_is_halved(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    step = Trainer.training_step

    def small(self: Trainer, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return step(self, model, inputs, *rest, **more)

    monkeypatch.setattr(Trainer, "training_step", small)
    monkeypatch.setattr("accelerate.utils.memory.clear_device_cache", lambda **_: None)
    run = trained(trainer(auto_find_batch_size=True))
    assert max(sizes[-2:]) <= 2 < sizes[0]
    assert run.state.global_step == 2


def test_caches_are_emptied(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[None] = []
    monkeypatch.setattr("transformers.trainer.clear_device_cache", lambda *_, **__: steps.append(None))
    trained(trainer(torch_empty_cache_steps=2, max_steps=3))
    assert len(steps) == 2  # before the first step, and before the third


def test_half_precision(trainer: Any, plain: dict[str, list[float]]) -> None:
    half = trained(trainer(bf16=True))
    assert logged(half, "loss") == pytest.approx(plain["loss"], rel=0.01)
    assert logged(half, "loss") != plain["loss"]
    assert {weight.dtype for weight in half.model.parameters()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize("given", [{"fp16": True}, {"tf32": True}])
def test_precision_of_a_gpu(trainer: Any, given: dict[str, bool]) -> None:
    plain, other = (trained(trainer(use_cpu=False, **more)) for more in ({}, given))
    assert logged(other, "loss") == pytest.approx(logged(plain, "loss"), rel=0.01)


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ({"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_n_layers": 2}}, [False, True]),
        ({"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}, [True, True]),
    ],
)
def test_checkpointing_of_layers(
    trainer: Any, given: dict[str, Any], layers: list[bool], plain: dict[str, list[float]]
) -> None:
    run = trained(trainer(**given))
    assert [layer.gradient_checkpointing for layer in run.model.language_model.model.layers] == layers
    assert logged(run, "loss") == pytest.approx(plain["loss"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [{}, {"torch_compile_mode": "default"}])
def test_compiled(trainer: Any, mode: dict[str, str]) -> None:
    plain, run = (
        trained(trainer(**more)) for more in ({}, {"torch_compile": True, "torch_compile_backend": "eager", **mode})
    )
    assert logged(run, "loss") == pytest.approx(logged(plain, "loss"), abs=1e-5)


def test_reading_by_workers(trainer: Any, plain: dict[str, list[float]]) -> None:
    run = trainer(
        dataloader_num_workers=2,
        dataloader_pin_memory=False,
        dataloader_persistent_workers=True,
        dataloader_prefetch_factor=3,
        dataloader_multiprocessing_context="fork",
        accelerator_config={"non_blocking": True, "gradient_accumulation_kwargs": {"sync_each_batch": True}},
    )
    loader = run.get_train_dataloader()
    inner = loader.base_dataloader
    assert (inner.num_workers, inner.prefetch_factor, inner.persistent_workers, inner.pin_memory) == (2, 3, True, False)
    assert inner.multiprocessing_context.get_start_method() == "fork"
    assert loader._non_blocking
    assert run.accelerator.gradient_state.plugin_kwargs["sync_each_batch"]
    assert logged(trained(run), "loss") == plain["loss"]
    unordered = trainer(dataloader_num_workers=2, dataloader_in_order=False).get_train_dataloader()
    assert not unordered.base_dataloader.in_order


@pytest.mark.slow
def test_logs(trainer: Any, capfd: pytest.CaptureFixture[str]) -> None:
    run = trainer(
        logging_strategy="steps", logging_steps=2, logging_first_step=True, max_steps=4, disable_tqdm=False,
        include_num_input_tokens_seen="all", debug="underflow_overflow",
        report_to="tensorboard", log_level="error",
    )  # fmt: skip
    seen: list[int] = []
    compute = run.compute_loss

    def counted(model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        seen.append(inputs["input_ids"].numel())
        return compute(model, inputs, *rest, **more)

    run.compute_loss = counted
    assert any(isinstance(callback, Bar) for callback in run.callback_handler.callbacks)
    before = library_logging.get_verbosity()
    try:
        run.train()
        assert library_logging.get_verbosity() == logging.ERROR
    finally:
        library_logging.set_verbosity(before)
    steps = [entry["step"] for entry in run.state.log_history if "loss" in entry]
    assert steps == [1, 2, 4]
    assert logged(run, "num_input_tokens_seen")[-1] == sum(seen)
    assert list((run.folder / "runs").glob("events*"))


@pytest.mark.slow
def test_memory_is_measured(trainer: Any) -> None:
    assert "train_mem_cpu_peaked_delta" in trainer(skip_memory_metrics=False, max_steps=1).train().metrics


@pytest.mark.slow
def test_trackers_are_told(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    given = {
        "run_name": "mine",
        "project": "boxes",
        "trackio_space_id": "a/b",
        "trackio_bucket_id": "c",
        "trackio_static_space_id": False,
    }

    class Tracker(TrainerCallback):
        def on_train_begin(self, args: Any, *rest: Any, **more: Any) -> None:
            told.update({name: getattr(args, name) for name in given})

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    trained(trainer(report_to="trackio", max_steps=1, **given))
    assert told == given


def test_checkpoints(trainer: Any) -> None:
    run = trained(trainer(save_strategy="steps", save_steps=1, save_total_limit=2, save_only_model=True, max_steps=3))
    assert sorted(path.name for path in run.folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    assert (run.folder / "checkpoint-3" / "model.safetensors").is_file()
    assert not (run.folder / "checkpoint-3" / "optimizer.pt").exists()


def test_going_on_without_skipping_data(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third step reads the first batch again; callbacks that keep a state get it back where that is asked for."""
    indices: list[list[int]] = []
    compute = Trainer.compute_loss

    def noted(self: Trainer, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        indices.append(list(inputs["index"]))
        return compute(self, model, inputs, *rest, **more)

    monkeypatch.setattr(Trainer, "compute_loss", noted)
    first = trained(trainer(save_strategy="steps", save_steps=2))
    checkpoint = str(first.folder / "checkpoint-2")
    for skips, expected in ((False, indices[0]), (True, None)):
        run = trainer("again", max_steps=3, ignore_data_skip=not skips, restore_callback_states_from_checkpoint=True)
        run.train(resume_from_checkpoint=checkpoint)
        assert (indices[-1] == expected) is not skips
    assert len(indices) == 4


def test_evaluation_without_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(
        "mllm.pipeline.trainer.Loader",
        lambda batch_size, **rest: sizes.append(batch_size) or Loader(batch_size=batch_size, **rest),
    )
    flags = ["--prediction_loss_only", "--do_eval", "--per_device_eval_batch_size", "2", "--max_steps", "1"]
    assert main(["train", str(write_config(tmp_path)), "--output_dir", str(tmp_path / "out"), *flags]) == 0
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert "eval_loss" in results
    assert "eval_acc@0.5" not in results
    assert sizes == [2]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--optim adamw_anyprecision", "training_args.optim: Please install"),
        ("--optim sgd --optim_args momentum", "training_args.optim_args: not enough values"),
        ("--optim sgd --optim_args momentum=fast", "training_args.optim_args: could not convert"),
        (
            "--optim adamw_torch --optim_args beta1=0.5",
            "training_args.optim_args: expected an argument of adamw_torch, found 'beta1'",
        ),
        (
            "--optim sgd --optim_args momentum=0.5,betas=1",
            "training_args.optim_args: expected an argument of sgd, found 'betas'",
        ),
        ("--lr_scheduler_type cosine_with_min_lr", "training_args.lr_scheduler_kwargs: One of min_lr or min_lr_rate"),
        ('--lr_scheduler_kwargs {"cycles":2}', "training_args.lr_scheduler_kwargs: get_linear_schedule_with_warmup()"),
        ("--lr_scheduler_type warmup_stable_decay", "training_args.lr_scheduler_kwargs: "),
        (
            '--lr_scheduler_type constant --lr_scheduler_kwargs {"a":2}',
            "training_args.lr_scheduler_kwargs: expected nothing, as a constant schedule takes none, found",
        ),
        (
            "--lr_scheduler_type constant --warmup_steps 5",
            "training_args.warmup_steps: expected 0, as a constant schedule has no warm-up, found",
        ),
        (
            '--lr_scheduler_type warmup_stable_decay --lr_scheduler_kwargs {"num_decay_steps":"x"}',
            "num_decay_steps: expect",
        ),
        (
            '--lr_scheduler_type cosine --lr_scheduler_kwargs {"num_cycles":-1}',
            "kwargs.num_cycles: expected a number of at",
        ),
        ("--lr_scheduler_kwargs fast", "training_args.lr_scheduler_kwargs: expected a dict, found str 'fast'"),
        (
            "--report_to tensorbord",
            "training_args.report_to: expected a reporter that transformers knows, found str 'tensorbord'; "
            "did you mean 'tensorboard'?",
        ),
        ("--fp16", "training_args.fp16: expected False without a GPU, found True; on a CPU there is bf16"),
        ("--learning_rate 0", "training_args.learning_rate: expected a rate above 0 for some parameter, found float"),
        (
            "--learning_rate 0 --cfg-options model_args.learning_rate_groups.connector=0",
            "training_args.learning_rate: expected a rate above 0",
        ),
        (
            "--max_steps 1 --warmup_steps 1",
            "training_args.warmup_steps: at each of the 1 steps of the run the learning",
        ),
        ("--max_steps 1 --warmup_steps 0.03", "training_args.warmup_steps: at each of the 1 steps of the run"),
        ("--tf32 True", "training_args: --tf32 requires"),
        (
            '--activation_checkpointing --activation_checkpointing_kwargs {"offload":true}',
            "activation_checkpointing_kwargs.offload: expected False without a GPU, found bool 'True'",
        ),
        ("--deepspeed x.json", "training_args.deepspeed: not supported: launch with a file of accelerate_config/"),
        (
            "--generation_num_beams 2",
            "training_args.generation_num_beams: not supported: say it in data_args.gen_kwargs",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str, said: str
) -> None:
    assert main(["train", str(write_config(tmp_path)), "--output_dir", str(tmp_path / "out"), *flags.split()]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "training_args" in line]
    assert said in line


def test_one_process_does_not_split_batches_over_gpus(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    args = trainer().args
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", 2)
    with pytest.raises(ConfigError, match="use accelerate launch, or set CUDA_VISIBLE_DEVICES"):
        check_training(args)


@pytest.mark.parametrize("optim", ["adagrad", "rmsprop", "adafactor", "adamw_torch_fused", "lion_32bit", "adamw_8bit"])
def test_optimizers(trainer: Any, optim: str) -> None:
    run = trainer(optim=optim, max_steps=3)
    optimizer = run.create_optimizer()
    assert optimizer.param_groups[0]["lr"] == 1e-3
