"""`data_args.images` on its way through a run: what is skipped, what is raised, who is told."""

from __future__ import annotations

import json
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mllm.conversation.collator import Collator
from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.dataset.augment import Augmented
from mllm.dataset.multiturn import MultiTurn
from mllm.dataset.sets.instruct import Instruct
from mllm.errors import ConfigError, DataError, ImageError
from mllm.images.settings import ImageSettings, configure, current_settings
from mllm.interrupts import SIGNALS
from mllm.pipeline.finetune import main
from mllm.pipeline.train_data import REPLACEMENTS, EvalDataset, TrainDataset, start_worker
from mllm.registry import CODECS, TEMPLATES
from mllm.types import EncodedSample
from tests.conftest import make_tokenizer
from tests.pipeline.tiny import write_config

COUNT, BROKEN, MISSING = 12, 3, 7


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """An annotation file of COUNT images, of which one is cut off and one is not there."""
    records: list[str] = []
    for number in range(COUNT):
        path = tmp_path / f"{number}.png"
        Image.effect_noise((32, 32), 50).save(path)
        if number == BROKEN:
            path.write_bytes(path.read_bytes()[:300])
        elif number == MISSING:
            path.unlink()
        conversation = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"A dog {number}."}]
        records.append(json.dumps({"image": path.name, "conversations": conversation}))
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(records))
    return file


def encoded(lines: Path, *, seed: int = 0, **settings: Any) -> TrainDataset:
    configure(ImageSettings(**settings))
    tokenizer = make_tokenizer()
    mean = std = (0.5, 0.5, 0.5)
    processor = Processor(
        tokenizer=tokenizer,
        template=TEMPLATES.make("vicuna_v1"),
        codec=CODECS.make("shikra"),
        view=SquarePreprocessor(size=28, mean=mean, std=std, tokens=4),
    )
    items = Instruct(filename=str(lines), image_folder=str(lines.parent))
    return TrainDataset(items, processor, seed=seed)


def only(examples: list[EncodedSample]) -> EncodedSample:
    (example,) = examples
    return example


def test_by_default_a_failed_image_is_raised_by_name(lines: Path) -> None:
    with pytest.raises(ImageError, match=r"^.*lines\.jsonl:4: .*3\.png: cannot be decoded: "):
        encoded(lines)[BROKEN]
    with pytest.raises(ImageError, match=r"^.*lines\.jsonl:8: .*7\.png: no such image$"):
        encoded(lines)[MISSING]


def test_what_is_not_installed_is_named_with_the_record_and_never_skipped(lines: Path) -> None:
    record = json.loads(lines.read_text().splitlines()[0])
    lines.write_text(json.dumps({**record, "image": "petrel://photos/a.jpg"}))
    with pytest.raises(ConfigError, match=r"^.*lines\.jsonl:1: images in ceph need the package petrel_client"):
        encoded(lines, on_error="skip")[0]


def test_another_item_takes_its_place(lines: Path) -> None:
    dataset = encoded(lines, on_error="skip")
    examples = [only(dataset[index]) for index in range(len(dataset))]
    assert len(examples) == COUNT
    assert [example.index for example in examples if not example.skipped] == [
        index for index in range(COUNT) if index not in (BROKEN, MISSING)
    ]
    for number, message in ((BROKEN, "cannot be decoded"), (MISSING, "no such image")):
        assert examples[number].index not in (BROKEN, MISSING)
        assert f"lines.jsonl:{number + 1}: " in examples[number].skipped[0]
        assert message in examples[number].skipped[0]


def test_the_replacement_follows_from_seed_epoch_and_index(lines: Path) -> None:
    def replacements(seed: int, epoch: int) -> list[int]:
        dataset = encoded(lines, on_error="skip", seed=seed)
        dataset.set_epoch(epoch)
        return [only(dataset[index]).index for index in (BROKEN, MISSING)]

    assert replacements(0, 0) == replacements(0, 0)
    assert len({tuple(replacements(seed, epoch)) for seed in range(3) for epoch in range(3)}) > 4


def test_a_size_that_cannot_be_read_is_skipped_too(lines: Path) -> None:
    """Augmentation, and a row that is filled, ask for sizes before any image is opened."""
    dataset = encoded(lines, on_error="skip")
    plain = dataset.items
    dataset.items = Augmented(dataset=plain, flip=1.0)
    assert "7.png: no such image" in only(dataset[MISSING]).skipped[0]
    dataset.items = MultiTurn(dataset=plain, draws=1)
    dataset.processor.max_length = 200
    assert "7.png: no such image" in only(dataset[MISSING]).skipped[0]


def test_evaluation_never_skips(lines: Path) -> None:
    training = encoded(lines, on_error="skip")
    test = EvalDataset(training.items, training.processor, [[index] for index in range(COUNT)], answer=False)
    assert only(test[0]).index == 0
    with pytest.raises(ImageError, match=r"lines\.jsonl:4: .*3\.png: cannot be decoded"):
        test[BROKEN]


def test_a_bad_line_is_never_skipped(lines: Path) -> None:
    text = lines.read_text().replace('"3.png"', '"../3.png"')
    lines.write_text(text)
    with pytest.raises(DataError, match=r"lines\.jsonl:4: image: \.\./3\.png: leaves its image_folder"):
        encoded(lines, on_error="skip")[BROKEN]


def test_when_all_fail_it_is_no_accident(lines: Path) -> None:
    for path in lines.parent.glob("*.png"):
        path.unlink()
    expected = rf"lines\.jsonl:1: .*0\.png: no such image; nor could its {REPLACEMENTS} replacements be read"
    with pytest.raises(ImageError, match=expected):
        encoded(lines, on_error="skip")[0]


def test_workers_skip_and_the_batch_says_what(lines: Path) -> None:
    dataset = encoded(lines, on_error="skip")
    loader = DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=Collator(pad_token_id=0))
    batches = list(loader)
    assert [len(batch["index"]) for batch in batches] == [4, 4, 4]
    assert ["skipped" in batch for batch in batches] == [True, True, False]
    assert "lines.jsonl:4: " in batches[0]["skipped"][0]
    here = [only(dataset[index]).index for index in range(COUNT)]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == here


def test_start_worker_configures_a_spawned_worker_and_unpickling_alone_does_not(lines: Path) -> None:
    """What a process gets that was not forked: the pickle alone."""
    data = pickle.dumps(encoded(lines, on_error="skip", max_pixels=32 * 32 - 1))
    configure(ImageSettings())
    bound, handlers = Image.MAX_IMAGE_PIXELS, [signal.getsignal(signum) for signum in SIGNALS]
    dataset = pickle.loads(data)  # noqa: S301, our own
    assert current_settings() == ImageSettings()
    assert bound == Image.MAX_IMAGE_PIXELS
    try:
        start_worker(dataset.open.settings, 0)
    finally:
        for signum, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(signum, handler)
    assert current_settings().max_pixels == 32 * 32 - 1
    with pytest.raises(ImageError, match=r"at most 1,023 pixels .*, found 32 x 32"):
        dataset[0]


def instructions(lines: Path) -> dict[str, Any]:
    return dict(type="Instruct", filename=str(lines), image_folder=str(lines.parent))


def test_a_run_counts_and_names_them(lines: Path, tmp_path: Path) -> None:
    data = dict(train=instructions(lines), images=dict(on_error="skip"))
    config = write_config(tmp_path, data_args=data)
    out = tmp_path / "out"
    arguments = ["--do_train", "True", "--max_steps", "3", "--output_dir", str(out)]  # an epoch of 12 items
    assert main([str(config), *arguments]) == 0
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    log = (out / "train.log").read_text()
    named = log.count("skipped an item and used another instead: ")
    assert named >= 2, "more, where a replacement failed too"
    assert sum(entry.get("skipped_images", 0) for entry in history) == named
    assert f"{lines}:4: {tmp_path}/3.png: cannot be decoded" in log
    assert f"{lines}:8: {tmp_path}/7.png: no such image" in log


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_raises_says_it_on_one_line(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    """A worker's error comes with its traceback in it."""
    training = dict(max_steps=3, dataloader_num_workers=workers)
    config = write_config(tmp_path, training_args=training, data_args=dict(train=instructions(lines)))
    assert main([str(config), "--do_train", "True", "--output_dir", str(tmp_path / "out")]) == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert said.startswith(f"ImageError: {lines}:")


def test_a_run_that_evaluates_them_ends(lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dict(train=instructions(lines), validation=instructions(lines), images=dict(on_error="skip"))
    config = write_config(tmp_path, data_args=dict(data, compute_metric=dict(type="ExactMatch")))
    arguments = ["--do_train", "True", "--do_eval", "True", "--max_steps", "1", "--output_dir", str(tmp_path / "out")]
    assert main([str(config), *arguments]) == 1
    assert "ImageError: " in capsys.readouterr().err


def test_a_wrong_key_is_named_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, data_args=dict(images=dict(on_eror="skip")))
    assert main([str(config), "--do_train", "True", "--output_dir", str(tmp_path / "out")]) == 1
    expected = "data_args.images.on_eror: unknown name; did you mean 'on_error'?"
    assert expected in capsys.readouterr().err
