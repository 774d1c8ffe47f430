"""`mllm score FILE`: the scores of answers that are there already, ours or others'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mllm.errors import ConfigError
from mllm.fields import in_field, show

if TYPE_CHECKING:
    from mllm.commands.score.scoring import Scored
    from mllm.conversation.convention import Convention
    from mllm.dataset.base import Dataset
    from mllm.metrics.base import Metric
    from mllm.metrics.outcome import Outcome

ALL_READINGS = "all"
DETECTIONS = "coco_detection"


def score(
    answers: Annotated[str, typer.Argument(metavar="FILE", help="Answers: .jsonl, .json, .tsv, .csv, .xlsx or .txt.")],
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help='From mllm list metrics, or "dict(type=..., ...)" as in a config. Default: REC, for detections '
            "Detection.",
        ),
    ] = None,
    reading: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With REC: read boxes as this public scorer does; all: a table of every one."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="CONFIG.py", help="The config of the questions; its data holds the ground truth."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="validation, test or multitest.NAME. Default: the only one.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Field of the annotation lines that identifies a question.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(metavar="NAME", help="Software that wrote FILE. Default: recognised by its fields.")
    ] = None,
    codec: Annotated[
        str | None, typer.Option(metavar="NAME", help="Read boxes and points from the text in this convention.")
    ] = None,
    placement: Annotated[
        Literal["pad", "crop", "squash", "aspect"] | None,
        typer.Option(help="Where images lie on the codec's canvas. Default: as in the family's own preprocessing."),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", metavar="DIR", help="Write scores, predictions and a report here.")
    ] = None,
    instances: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json", help="COCO annotations: they name the images and categories of a detector's results."
        ),
    ] = None,
    submission: Annotated[
        Literal["vqa", "gqa", "vizwiz", "coco_captions"] | None,
        typer.Option(
            help="With --data and --output_dir: instead of scores, write the file that this benchmark's server takes, "
            "one record for every question."
        ),
    ] = None,
) -> None:
    """Score answers that exist already, from mllm or from other software. No model is loaded.

    FILE may be an evaluation's ..._extra_prediction.jsonl, samples of lmms-eval, a table of VLMEvalKit, what the
    scripts of InternVL or Shikra write, a submission (VQAv2, GQA, VizWiz, COCO captions), answers of LLaVA, COCO
    detections, or a text a line.

    mllm score outputs/eval_extra_prediction.jsonl --reading all

    mllm score answers.jsonl --data config/vqav2.py --split test --metric VQAAccuracy

    mllm score test_extra_prediction.jsonl --data config/vqav2.py --split test --submission vqa --output_dir out
    """
    from mllm.commands.score.detections import detected
    from mllm.commands.score.layouts import read_answers
    from mllm.commands.score.scoring import from_answers, join_with_items
    from mllm.metrics.outcome import outcome
    from mllm.report.summary import summary

    found_layout, found = read_answers(answers, layout)
    if found_layout == DETECTIONS or instances is not None:
        texts = {"--codec": codec, "--reading": reading, "--key": key, "--submission": submission}
        _check_detections(answers, found_layout, {"--data": data, "--instances": instances}, texts)
    convention = _convention(codec, placement)
    if submission is not None and (data is None or output_dir is None):
        found_options = "--data" if data else "--output_dir" if output_dir else "neither"
        raise ConfigError(where="--submission", expected="--data and --output_dir", found=found_options)
    items = None if data is None else _items(data, split)
    if items is None:
        if split or key:
            raise ConfigError(
                where="--data", expected=f"a config for {'--split' if split else '--key'}", found="nothing"
            )
        scored = from_answers(found, convention)
    elif instances is not None:
        scored = detected(found, items, instances)
    else:
        scored = join_with_items(found, items, found_layout, key, convention)
    print(f"{answers}: {len(found)} answers, layout {found_layout}")
    if scored.left_out:
        print(f"  {scored.left_out}")
    if submission is not None and output_dir is not None and items is not None:
        from mllm.commands.score.submission import write_submission

        path = output_dir / f"submission_{submission}.json"
        write_submission(path, submission, scored.predictions, items)
        return print(f"  {len(scored.predictions)} answers for the server: {path}")
    if reading == ALL_READINGS:
        if metric is not None:
            raise ConfigError(
                "leave --metric out",
                where="--reading all",
                expected="no --metric, as it compares readings of REC",
                found=repr(metric),
            )
        return print(_readings(scored, has_boxes=codec is not None or found_layout == "mllm"))
    judge = _metric(metric or ("Detection" if found_layout == DETECTIONS else "REC"), reading)
    if convention is None and found_layout not in ("mllm", DETECTIONS):
        _check_regions(answers, scored, judge)
    result = outcome(judge, scored.predictions, scored.images)
    print(summary("score", result, judge, None))
    if output_dir is not None:
        _write(output_dir, answers, result, scored, judge)


def _check_detections(path: str, layout: str, needed: dict[str, str | None], of_texts: dict[str, str | None]) -> None:
    """
    Raises:
        ConfigError: a detector's results lack an option or have one that reads texts, or other answers have
            --instances.
    """
    if layout != DETECTIONS:
        raise ConfigError(where="--instances", expected=f"answers of layout '{DETECTIONS}'", found=f"'{layout}'")
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        expected = "--data and --instances for a detector's results"
        raise ConfigError(where=path, expected=expected, found=f"no {' and no '.join(missing)}")
    for name, value in of_texts.items():
        if value is not None:
            raise ConfigError(where=name, expected="answers in words", found=f"a detector's results, {path}")


def _convention(codec: str | None, placement: Any) -> Convention | None:
    if codec is None:
        if placement:
            raise ConfigError(where="--codec", expected="a codec for --placement", found="nothing")
        return None
    from mllm.conversation.convention import make_convention

    return make_convention(codec, placement=placement)


def _items(config: str, split: str | None) -> Dataset:
    from mllm.config.config import read
    from mllm.images.settings import configure, read_settings
    from mllm.pipeline.splits import splits
    from mllm.registry import DATASETS

    data = {**read(config)["data_args"], "train": None}
    configure(read_settings(data.get("images")))
    chosen = splits(data, [split] if split else ())
    if len(chosen) > 1:
        names = ", ".join(map(str, chosen))
        raise ConfigError(
            f"choose one with --split: {names}", where=config, expected="one dataset", found=str(len(chosen))
        )
    return DATASETS.make(chosen[0].cfg)


def _metric(metric: str, reading: str | None) -> Metric:
    from mllm.config.options import value
    from mllm.registry import METRICS

    config: Any = in_field("--metric", value, metric) if metric.lstrip().startswith(("{", "dict(")) else metric
    if not isinstance(config, (str, dict)):
        expected = "dict(type=..., key=value, ...) of numbers, texts in quotes, lists and dicts"
        raise ConfigError(where="--metric", expected=expected, found=show(config))
    if reading is not None:
        config = {**(config if isinstance(config, dict) else {"type": config}), "reading": reading}
    return METRICS.make(config)


def _check_regions(path: str, scored: Scored, metric: Metric) -> None:
    """Texts whose boxes nobody reads would all be wrong.

    Raises:
        ConfigError: the truths are regions alone, and neither a codec nor a reading of the metric finds any in texts.
    """
    truths = [prediction.truth for prediction in scored.predictions]
    regions = any(truth.boxes or truth.points for truth in truths) and not any(truth.texts for truth in truths)
    if regions and getattr(metric, "reading", None) is None:
        expected = "--codec NAME (mllm list codecs), or --reading NAME of REC, to read boxes from its texts"
        raise ConfigError(where=path, expected=expected, found="neither")


def _readings(scored: Scored, *, has_boxes: bool) -> str:
    """A table of what each public scorer makes of the same answers."""
    from mllm.metrics.rec import CODEC, REC
    from mllm.metrics.rec_readings import READINGS
    from mllm.report.tables import table

    rows: list[tuple[str, ...]] = []
    named = all(prediction.expression is not None for prediction in scored.predictions)
    for name in ((CODEC,) if has_boxes else ()) + tuple(READINGS):
        if name != CODEC and READINGS[name].prompt and not named:
            rows.append((name, "-", "-", "no expression"))
            continue
        scores = REC(reading=name)(scored.predictions)
        unread = sum(value for key, value in scores.items() if key.startswith("failure_"))
        rows.append((name, f"{scores['acc@0.5']:.4f}", f"{scores['mean_iou']:.4f}", f"{unread:.0f}"))
    return table(("reading", "acc@0.5", "mean_iou", "no box"), rows, numbers=True)


def _write(folder: Path, answers: str, found: Outcome, scored: Scored, metric: Metric) -> None:
    from mllm.metrics.outcome import PREDICTIONS, RESULTS, as_record
    from mllm.report.index import REPORT
    from mllm.report.published import published
    from mllm.report.report import write_report
    from mllm.report.rows import answer_rows, rows_without_items

    folder.mkdir(parents=True, exist_ok=True)
    others = published(metric, scored.predictions)
    record = {**found.as_json("score"), **({"published": others} if others else {})}
    (folder / f"score_{RESULTS}").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    with (folder / f"score_{PREDICTIONS}").open("w", encoding="utf-8") as file:
        for prediction, image, question in zip(scored.predictions, scored.images, scored.questions, strict=True):
            record = as_record(prediction, image=image, question=question, metric=metric)
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    answered = scored.predictions
    write_report(
        folder / f"score_{REPORT}",
        title=f"{folder.name}: {Path(answers).name}",
        subtitle=answers,
        found=found,
        rows=rows_without_items(answered, scored.images, scored.questions, metric)
        if scored.items is None
        else answer_rows(answered, scored.items, metric),
        published=others,
        meanings=metric.meanings,
    )
    print(f"  report: {folder / f'score_{REPORT}'}")
