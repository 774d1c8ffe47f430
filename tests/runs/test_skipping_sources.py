"""Wherever an image comes from and whatever is wrong with it: training skips it by name, evaluation ends by name."""

from __future__ import annotations

import base64
import functools
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from mllm.conversation.collator import Collator
from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor, SquarePreprocessor
from mllm.conversation.preprocessing.tiling import Crops, TiledPreprocessor
from mllm.conversation.processor import Processor
from mllm.dataset.augment import Augmented
from mllm.dataset.mixing import ConcatDataset, Repeat
from mllm.dataset.multiturn import SamePicture
from mllm.dataset.sets.instruct import Instruct
from mllm.dataset.sets.mimic_it import MimicIt
from mllm.dataset.sets.shards import Shards
from mllm.errors import ImageError
from mllm.images import UrlImage, fetch
from mllm.images.cache import DiskCache
from mllm.images.settings import ImageSettings, configure
from mllm.models.native.builder import make_view
from mllm.models.native.view import ProcessorView
from mllm.pipeline.build import _corpus
from mllm.pipeline.planning import Cost, PlannedBatches
from mllm.pipeline.train_data import EvalDataset, SeededEpochSampler, TrainDataset
from mllm.records import read_item
from mllm.registry import CODECS, FAMILIES, TEMPLATES
from mllm.types import Item
from tests.conftest import make_tokenizer
from tests.models import tiny_hf

COUNT, BAD = 5, 3
MEAN = STD = (0.5, 0.5, 0.5)
Make = Callable[[Path], tuple[Any, str, str]]
"""A folder -> a dataset whose item BAD has a bad image, what names that item, what is wrong."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mllm.images.fetch._PAUSE_SECONDS", 0.0)


def png(number: int, size: tuple[int, int] = (32, 24)) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def files(bad: bytes | None) -> dict[str, bytes]:
    """COUNT image files by name; `bad` stands for one of them, or None: it is not there."""
    found = {f"{number}.png": png(number) for number in range(COUNT)}
    if bad is None:
        del found[f"{BAD}.png"]
    else:
        found[f"{BAD}.png"] = bad
    return found


CUT, HEADLESS, PAGE = png(BAD)[:300], png(BAD)[:20], b"<html>log in first</html>"
LOOKS = {"cut": CUT, "headless": HEADLESS, "page": PAGE, "empty": b""}


def talks(folder: Path, image: Callable[[int], str], **arguments: Any) -> Instruct:
    lines = [
        {
            "image": image(number),
            "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"A {number}."}],
        }
        for number in range(COUNT)
    ]
    file = folder / "lines.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return Instruct(filename=str(file), **arguments)


def in_files(bad: bytes | None) -> Make:
    def make(folder: Path) -> tuple[Any, str, str]:
        for name, data in files(bad).items():
            (folder / name).write_bytes(data)
        return talks(folder, lambda n: f"{n}.png", image_folder=str(folder)), f"lines.jsonl:{BAD + 1}: ", f"{BAD}.png"

    return make


def in_zip(bad: bytes | None) -> Make:
    def make(folder: Path) -> tuple[Any, str, str]:
        with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
            for name, data in files(bad).items():
                archive.writestr(name, data)
        items = talks(folder, lambda n: f"zip://{n}.png::photos.zip", image_folder=str(folder))
        return items, f"lines.jsonl:{BAD + 1}: ", f"zip://{BAD}.png::"

    return make


def in_tar(bad: bytes | None) -> Make:
    def make(folder: Path) -> tuple[Any, str, str]:
        write_tar(folder / "photos.tar", files(bad))
        items = talks(folder, lambda n: f"{n}.png", image_folder=f"tar://::{folder}/photos.tar")
        return items, f"lines.jsonl:{BAD + 1}: ", f"tar://{BAD}.png::"

    return make


def no_archive(folder: Path) -> tuple[Any, str, str]:
    items, place, _ = in_zip(png(0))(folder)
    lines = Path(items.lines.path).read_text().splitlines()
    lines[BAD] = lines[BAD].replace("photos.zip", "gone.zip")
    return (
        Instruct(filename=write(folder / "gone.jsonl", "\n".join(lines)), image_folder=str(folder)),
        place.replace("lines", "gone"),
        "gone.zip: no such file",
    )


def in_shards(bad: bytes) -> Make:
    def make(folder: Path) -> tuple[Any, str, str]:
        members: dict[str, bytes] = {}
        for name, data in files(bad).items():
            members |= {name: data, name.replace("png", "txt"): b"A dog."}
        write_tar(folder / "photos.tar", members)
        pool = write(folder / "pool.json", json.dumps(["<image> What?"]))
        return Shards(filename=str(folder / "*.tar"), questions=pool), f"photos.tar[{BAD}]: ", f"sample {BAD}"

    return make


def in_base64(bad: str | None) -> Make:
    """`bad`: the text of the image; None: the file lacks it."""

    def make(folder: Path) -> tuple[Any, str, str]:
        texts = {f"IMG_{number}": base64.b64encode(png(number)).decode() for number in range(COUNT)}
        if bad is None:
            del texts[f"IMG_{BAD}"]
        else:
            texts[f"IMG_{BAD}"] = bad
        asked = {
            f"INS_{n}": {"instruction": "What?", "answer": f"A {n}.", "image_ids": [f"IMG_{n}"], "rel_ins_ids": []}
            for n in range(COUNT)
        }
        filename = write(folder / "X_instructions.json", json.dumps({"meta": {}, "data": asked}))
        images = write(folder / "X.json", json.dumps(texts))
        return MimicIt(filename=filename, images=images), f"X_instructions.json[{BAD}]: ", f"IMG_{BAD}"

    return make


def fetched(bad: bytes | None) -> Make:
    """From fsspec's file system in memory, which is read as any that is elsewhere."""

    def make(folder: Path) -> tuple[Any, str, str]:
        system: Any = fsspec.filesystem("memory")
        system.rm("/photos", recursive=True) if system.exists("/photos") else None
        for name, data in files(bad).items():
            system.pipe_file(f"/photos/{name}", data)
        configure(ImageSettings(protocols=("memory",)))
        items = talks(folder, lambda n: f"{n}.png", image_folder="memory://photos")
        return items, f"lines.jsonl:{BAD + 1}: ", f"memory://photos/{BAD}.png"

    return make


def nobody_answers(folder: Path) -> tuple[Any, str, str]:
    items, place, _ = in_files(png(0))(folder)
    lines = Path(items.lines.path).read_text().splitlines()
    lines[BAD] = lines[BAD].replace(f"{BAD}.png", "http://127.0.0.1:9/a.png")
    return (
        Instruct(filename=write(folder / "web.jsonl", "\n".join(lines)), image_folder=str(folder)),
        place.replace("lines", "web"),
        "http://127.0.0.1:9/a.png: ",
    )


class InMemory:
    """Items with an image of no pixels among them."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Item:
        record = {
            "image": Image.new("RGB", (0, 5) if index == BAD else (5, 5)),
            "conversations": [{"from": "human", "value": "<image> What?"}, {"from": "gpt", "value": "A dog."}],
        }
        return read_item(record, key=f"memory:{index}")

    def set_epoch(self, epoch: int | None) -> None: ...


SOURCES: dict[str, Make] = {
    **{f"file-{name}": in_files(data) for name, data in LOOKS.items()},
    "file-missing": in_files(None),
    **{f"zip-{name}": in_zip(data) for name, data in LOOKS.items()},
    "zip-missing": in_zip(None),
    "zip-gone": no_archive,
    **{f"tar-{name}": in_tar(data) for name, data in LOOKS.items()},
    "tar-missing": in_tar(None),
    **{f"shards-{name}": in_shards(data) for name, data in LOOKS.items()},
    **{f"base64-{name}": in_base64(base64.b64encode(data).decode()) for name, data in LOOKS.items()},
    "base64-not": in_base64("*no*base64*"),
    "base64-missing": in_base64(None),
    **{f"url-{name}": fetched(data) for name, data in LOOKS.items()},
    "url-missing": fetched(None),
    "http-nobody": nobody_answers,
    "memory-empty": lambda folder: (InMemory(), f"memory:{BAD}: ", "an image in memory: expected pixels, found 0 x 5"),
}


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


SQUARE = SquarePreprocessor(size=28, mean=MEAN, std=STD, tokens=4)
TILES = TiledPreprocessor(tiling=Crops(rows=1, columns=2), side=28, mean=MEAN, std=STD, tokens=4, grid=None)


def encoded(items: Any, view: ImagePreprocessor = SQUARE, **settings: Any) -> TrainDataset:
    configure(ImageSettings(**{"protocols": ("memory", "http"), "retries": 0, **settings}))
    processor = Processor(
        tokenizer=make_tokenizer(), template=TEMPLATES.make("vicuna_v1"), codec=CODECS.make("shikra"), view=view
    )
    return TrainDataset(items, processor)


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, str, str]:
    return SOURCES[request.param](tmp_path)


def test_a_tokenizer_is_trained_on_what_can_be_read(source: tuple[Any, str, str]) -> None:
    items, _, _ = source
    configure(ImageSettings(protocols=("memory", "http"), retries=0, on_error="skip"))
    texts = list(_corpus(items, TEMPLATES.make("plain"), make_tokenizer()))
    assert COUNT - 1 <= len(texts) <= COUNT


@pytest.mark.parametrize("pixels", ["exact", "reduced"])
def test_training_skips_it_and_says_what_and_where(source: tuple[Any, str, str], pixels: str) -> None:
    items, place, reason = source
    dataset = encoded(items, on_error="skip", pixels=pixels)
    examples = [example for (example,) in dataset.__getitems__(range(COUNT))]
    assert [bool(example.skipped) for example in examples] == [index == BAD for index in range(COUNT)]
    assert examples[BAD].index != BAD
    (said,) = examples[BAD].skipped
    assert place in said
    assert reason in said
    assert "\n" not in said
    assert dataset[BAD][0].index == examples[BAD].index, "the same replacement every time"


def test_training_raises_it_by_default(source: tuple[Any, str, str]) -> None:
    items, place, reason = source
    with pytest.raises(ImageError) as caught:
        encoded(items)[BAD]
    assert place in str(caught.value)
    assert reason in str(caught.value)


def test_evaluation_raises_it_whatever_the_settings(source: tuple[Any, str, str]) -> None:
    items, place, reason = source
    training = encoded(items, on_error="skip")
    grouped = EvalDataset(items, training.processor, [[index] for index in range(COUNT)], answer=False)
    assert [example.index for example in grouped[0]] == [0]
    with pytest.raises(ImageError) as caught:
        grouped[BAD]
    assert place in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("view", [SQUARE, TILES])
def test_plans_go_on_without_it(source: tuple[Any, str, str], view: ImagePreprocessor) -> None:
    items, _, _ = source
    dataset = encoded(items, view, on_error="skip")
    cost = Cost(pair=0.1)
    plan = PlannedBatches(dataset, SeededEpochSampler(dataset, seed=0), batch_size=2, ranks=1, cost=cost, sharing=True)
    batches = list(plan)
    planned = [index for batch in batches for index in batch]
    assert {*planned} == {*range(COUNT)}
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=Collator(pad_token_id=0, packing="shared"))
    assert sum(len(batch.get("skipped", [])) for batch in loader) == planned.count(BAD)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_skip_as_the_main_process_does(tmp_path: Path, method: str) -> None:
    """A worker that was spawned learns the settings with the dataset."""
    items, place, _ = SOURCES["base64-missing"](tmp_path)
    dataset = encoded(items, on_error="skip")
    here = [example.index for (example,) in dataset.__getitems__(range(COUNT))]
    loader = DataLoader(
        dataset,
        batch_size=COUNT,
        num_workers=1,
        collate_fn=Collator(pad_token_id=0),
        multiprocessing_context=method,
    )
    (batch,) = loader
    assert batch["index"].tolist() == here
    assert [place in said for said in batch["skipped"]] == [True]


def test_datasets_of_datasets_pass_it_on(tmp_path: Path) -> None:
    items, place, _ = SOURCES["tar-headless"](tmp_path)
    around = [
        ConcatDataset(datasets=[items]),
        Repeat(dataset=items, times=1),
        Augmented(dataset=items, flip=1.0, pad=1.0),
        SamePicture(dataset=items, picture="image"),
    ]
    for outer in around:
        dataset = encoded(outer, on_error="skip")
        skipped = [dataset[index][0].skipped for index in range(COUNT)]
        assert [any(place in said for said in reasons) for reasons in skipped].count(True) == 1, type(outer).__name__


def test_what_was_damaged_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    items, _, _ = fetched(png(0))(tmp_path)
    dataset = encoded(items, on_error="skip")
    assert not dataset[0][0].skipped
    ref = items[0].images[0]
    assert isinstance(ref, UrlImage)
    folder = ImageSettings().cache_path
    assert folder is not None
    kept = DiskCache(folder, 10**9)
    assert kept.get(ref.url) == png(0)
    kept.put(ref.url, CUT)
    assert not dataset[0][0].skipped
    assert kept.get(ref.url) == png(0)
    kept.put(ref.url, CUT)
    fsspec.filesystem("memory").rm_file("/photos/0.png")
    assert "memory://photos/0.png: no such file" in dataset[0][0].skipped[0]


@pytest.fixture(scope="module")
def view_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ProcessorView]:
    """How a family sees images, without its model."""

    @functools.cache
    def make(family: str) -> ProcessorView:
        tokenizer = tiny_hf.make_tokenizer(family)
        folder = tmp_path_factory.mktemp(family)
        tiny_hf.save_processor(family, tokenizer, folder)
        config = tiny_hf.make_config(family, tokenizer)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return make_view(str(folder), FAMILIES.find(family)(), config, tokenizer, tiny_hf.make_image_processor(family))

    return make


@pytest.mark.parametrize("family", tiny_hf.FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 1000), (60_000, 1), (1, 60_000)])
def test_a_family_takes_a_size_or_refuses_it_everywhere(
    view_of: Callable[[str], ProcessorView], family: str, size: tuple[int, int]
) -> None:
    """Plans, text and pixels agree on what is refused, and on the number of tiles or patches."""
    view = view_of(family)
    said: list[bool] = []
    for ask in (
        lambda: view.placement(size),
        lambda: view.placeholder_tokens(size),
        lambda: view(Image.new("RGB", size)),
    ):
        try:
            ask()
        except ImageError:
            said.append(False)
        else:
            said.append(True)
    too_thin = family.startswith("qwen") and max(size) / min(size) > 200
    assert said == [not too_thin] * 3


def test_what_a_model_refuses_is_skipped_by_name(view_of: Callable[[str], ProcessorView], tmp_path: Path) -> None:
    """Qwen-VL takes no aspect ratio above 200, though such an image decodes."""
    items, place, _ = in_files(png(BAD, (2, 500)))(tmp_path)
    view = view_of("qwen2_vl")
    tokenizer = view.processor.tokenizer
    configure(ImageSettings(on_error="skip"))
    processor = Processor(
        tokenizer=tokenizer, template=TEMPLATES.make("chat"), codec=CODECS.make("qwen2_vl"), view=view
    )
    dataset = TrainDataset(items, processor)
    assert dataset.lengths(BAD) == ((), ())
    assert len(dataset.lengths(0)[1]) == 1
    ((example,),) = dataset.__getitems__([BAD])
    assert f"{place}{tmp_path}/{BAD}.png: the model's image processor refuses 2 x 500 pixels" in example.skipped[0]
    with pytest.raises(ImageError, match=rf"lines\.jsonl:{BAD + 1}: .*{BAD}\.png: .*refuses 2 x 500 pixels"):
        EvalDataset(items, processor, [[BAD]], answer=False)[0]


@pytest.mark.parametrize(("kind", "size"), [("pad", (1, 30_000)), ("pad", (30_000, 1)), ("crop", (1, 1_000_000))])
def test_what_would_need_too_large_a_canvas_is_refused(kind: Any, size: tuple[int, int]) -> None:
    view = SquarePreprocessor(size=224, mean=MEAN, std=STD, tokens=4, placement=kind)
    for ask in (lambda: view.placement(size), lambda: view(Image.new("RGB", size))):
        with pytest.raises(ImageError, match=f"for {size[0]} x {size[1]} pixels; the image is too long and thin"):
            ask()


def test_storage_is_never_asked_twice_for_a_final_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, _, _ = fetched(None)(tmp_path)
    asked: list[str] = []
    read = fetch._read
    monkeypatch.setattr(fetch, "_read", lambda url, current: (asked.append(url), read(url, current))[1])
    assert "no such file" in encoded(items, on_error="skip", retries=5)[BAD][0].skipped[0]
    assert asked.count(f"memory://photos/{BAD}.png") == 1
