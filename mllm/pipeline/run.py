"""One run: what `do_train`, `do_eval` and `do_predict` of a config ask for, in its output folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import set_seed
from transformers.utils.logging import disable_progress_bar

from mllm.config.config import dump
from mllm.config.run_arguments import RunArguments
from mllm.config.sections import generation_sections, texts
from mllm.config.without_effect import without_effect
from mllm.errors import ConfigError
from mllm.generation_args import without_effect as unused
from mllm.interrupts import INTERRUPTS, Interrupted
from mllm.pipeline.allocation import keep_freed_memory
from mllm.pipeline.announcements import after_training, before_training
from mllm.pipeline.build import build
from mllm.pipeline.data import Data, load_data
from mllm.pipeline.manifest import saved_at
from mllm.pipeline.mirror import Mirror, prepare
from mllm.pipeline.output_folder import empty, finished_model, locked
from mllm.pipeline.ranks import check_launch, fail, follow_launcher, noted_signal, on_main
from mllm.pipeline.resume import Start, check_vocabulary, describe_changes, find_start, started_with
from mllm.pipeline.run_checks import CHECKPOINT_KEYS, check_run, typed
from mllm.pipeline.trainer import Trainer
from mllm.report.index import INDEX
from mllm.report.summary import joint_summary

if TYPE_CHECKING:
    from mllm.config.config import Config

logger = logging.getLogger("mllm")


def run_pipeline(cfg: Config, args: RunArguments) -> dict[str, float]:
    """All scores, keyed by the prefix of their files.

    A run that has finished training is not trained again; what it still has to evaluate is evaluated.
    """
    if not (args.do_train or args.do_eval or args.do_predict):
        raise ConfigError(
            "or use mllm train, eval or predict",
            field="training_args",
            expected="do_train, do_eval or do_predict",
            found="none of them",
        )
    assert args.output_dir is not None, "load gives every run an output_dir"
    folder = Path(args.output_dir)
    started_with()
    check_launch(args.world_size)
    follow_launcher()
    if args.device.type == "cpu":
        keep_freed_memory()
    if args.disable_tqdm:
        disable_progress_bar()  # that of loading and writing weights
    with locked(folder):
        start = on_main(lambda: _find_start(args)) if args.do_train else Start()
        _log_to(folder, main=args.process_index == 0)
        for note in start.notes:
            logger.info("%s", note)
        sections = cfg.to_dict()
        sections["model_args"] = typed(sections["model_args"])
        check_run(sections, args)
        for note in without_effect(sections["training_args"], early_stopping=bool(sections.get("early_stopping"))):
            logger.info("%s", note)
        for field, given in generation_sections(sections.get("data_args") or {}).items():
            for note in unused(given, field):
                logger.info("%s", note)
        if start.finished is not None:
            _mirror_model(args)
            return _evaluate_finished(sections, args, start.finished)
        data = load_data(sections, args)
        set_seed(args.seed)
        trainer = build(sections, args, data)
        dump(cfg, args, folder)
        if args.do_train:
            logger.info("%s", before_training(trainer, sections, data))
            _train(trainer, start, args, sections)
            logger.info("%s", after_training(trainer))
        return _evaluate(trainer, data)


def _find_start(args: RunArguments) -> Start:
    fetched = prepare(args)
    start = find_start(args)
    return replace(start, notes=(*fetched, *start.notes))


def _mirror_model(args: RunArguments) -> None:
    mirror, folder = Mirror.of(args), Path(args.output_dir or ".")
    if mirror is not None:
        on_main(lambda: mirror.add_model(folder))


def _train(trainer: Trainer, start: Start, args: RunArguments, sections: Mapping[str, Any]) -> None:
    folder, checkpoint = trainer.folder, start.checkpoint
    if checkpoint is not None:
        if trainer.is_deepspeed_enabled and sections["model_args"].get("quantization"):
            raise ConfigError(
                "DeepSpeed cannot resume a quantised model: train from the start, or launch without DeepSpeed",
                where=f"resume_from_checkpoint {checkpoint}",
                field="model_args.quantization",
            )
        for change in on_main(
            lambda: describe_changes(checkpoint, trainer.described, skips_data=not args.ignore_data_skip)
        ):
            logger.info("since %s: %s", checkpoint.name, change)
        on_main(lambda: check_vocabulary(checkpoint, trainer.processor.tokenizer))
    if args.overwrite_output_dir:
        on_main(lambda: empty(folder, texts(sections["model_args"])))
        if trainer.mirror is not None:
            on_main(trainer.mirror.empty)
    with INTERRUPTS.held("finishing this step, then writing a checkpoint"):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.guard.signum:
            trainer.end_interrupted(trainer.guard.signum)
        trainer.require_finite_weights()
        with finished_model(folder, args, trainer.described) as partial:
            trainer.save_model(str(partial))
            if args.should_save:
                trainer.state.save_to_json(str(partial / "trainer_state.json"))
        _mirror_model(args)
    if signum := noted_signal():
        left = ", evaluation is left" if args.do_eval or args.do_predict else ""
        fail(Interrupted(signum, f"training is finished{left}"))


def _evaluate(trainer: Trainer, data: Data) -> dict[str, float]:
    scores = trainer.evaluate() if trainer.args.do_eval and data.validation is not None else {}
    for prefix, test in data.tests.items():
        scores |= trainer.score(test, prefix)
    if len(data.tests) > 1 and trainer.is_world_process_zero():
        print(joint_summary(scores, {prefix: test.metric for prefix, test in data.tests.items()}))
        print(f"  report: {trainer.folder / INDEX}")
    return scores


def _evaluate_finished(sections: dict[str, Any], args: RunArguments, step: int) -> dict[str, float]:
    """What a run that was stopped after training has not evaluated yet."""
    folder = Path(args.output_dir or ".")
    args.do_train = False
    finished = saved_at(folder)
    done = [path.name.removesuffix("_results.json") for path in folder.glob("*_results.json")]
    done = [prefix for prefix in done if (folder / f"{prefix}_results.json").stat().st_mtime >= finished]
    data = load_data(sections, args).without(done)
    if data.validation is None and not data.tests:
        logger.info("%s: the run has already finished at step %d; there is nothing left to do", folder, step)
        return {}
    logger.info("%s: training has already finished at step %d; only evaluation is left", folder, step)
    model_args = {name: value for name, value in sections["model_args"].items() if name not in CHECKPOINT_KEYS}
    sections["model_args"] = {**model_args, "model_name_or_path": str(folder)}
    return _evaluate(build(sections, args, data), data)


def _log_to(folder: Path, *, main: bool) -> None:
    """INFO of this package to the terminal, and everything to `train.log`; of other processes only what is wrong."""
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO if main else logging.WARNING)
    file = logging.FileHandler(folder / "train.log", encoding="utf-8", delay=True)
    file.setLevel(logging.DEBUG if main else logging.ERROR)
    logger.handlers = [terminal, file]
    for handler in logger.handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
