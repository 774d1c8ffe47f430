"""Classification: a folder of images for each class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mllm.dataset.base import seeded_rng
from mllm.dataset.questions import ANSWER, QUESTION, Questions, fill
from mllm.dataset.sets.vqa import AnswerText
from mllm.errors import ConfigError, DataError, nearest
from mllm.fields import PathName, show
from mllm.records import read_item
from mllm.registry import DATASETS
from mllm.types import IMAGE, Item

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@DATASETS.register_module()
class ImageFolder:
    """The images of `folder/class/`, also in folders below, sorted by name; the answer is the name of the class.

    Args:
        folder: with a folder for each class; other files in it are left alone, hidden ones everywhere.
        question: what is asked of every image, such as "What is the weather like?"
        questions: a pool with `<image>` and `<question>`.
        options: name the classes in the question, in an order drawn anew each time in training.
        names: what a class is called, where that is not the name of its folder.
        answer: the text of every answer; holds `<answer>` once.

    Raises:
        DataError: no such folder, fewer than two classes, or a class without images.
        ConfigError: `names` of a folder that is not there, or one name for two.
    """

    def __init__(
        self,
        *,
        folder: PathName,
        question: str,
        questions: PathName,
        options: bool = True,
        names: dict[str, str] | None = None,
        answer: AnswerText = "<answer>",
        seed: int = 0,
    ) -> None:
        self.questions = Questions(questions, (IMAGE, QUESTION))
        self.question = question
        self.options = options
        self.answer = answer
        self.seed = seed
        self.epoch: int | None = None
        self.folder = folder
        self.files, found = class_files(folder)
        self._folders = found
        numbers = [number for _, number in self.files]
        self._first = [numbers.index(number) for number in range(len(found))]
        for name in names or {}:
            if name not in found:
                raise ConfigError(
                    nearest(name, found), field="names", expected=f"a folder in {folder}", found=show(name)
                )
        called = {name: (names or {}).get(name, name.replace("_", " ")) for name in found}
        for name, folders in Counter(called.values()).items():
            if folders > 1:
                raise ConfigError(
                    field="names",
                    expected=f"a name of its own for each folder of {folder}",
                    found=f"{name!r} for {', '.join(each for each in called if called[each] == name)}",
                )
        self.classes = list(called.values())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Item:
        path, number = self.files[index]
        rng = None if self.epoch is None else seeded_rng(self.seed, self.epoch, index)
        template = self.questions.draw(rng)
        question = self.question
        if self.options:
            order = self.classes if rng is None else rng.sample(self.classes, len(self.classes))
            question = f"{question} Options: {', '.join(order)}."
        said = self.classes[number]
        record = {
            "image": str(Path(path).relative_to(self.folder)),
            "conversations": [
                {"from": "human", "value": fill(template, {QUESTION: question})},
                {"from": "gpt", "value": fill(self.answer, {ANSWER: said})},
            ],
            "truth": {"texts": [said], "options": self.classes},
        }
        key = f"{Path(self.folder, self._folders[number])}[{index - self._first[number]}]"
        return read_item(record, key=key, folder=self.folder)

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch


def class_files(folder: str) -> tuple[list[tuple[str, int]], list[str]]:
    """Each image with the number of its class, and the folders of the classes.

    Raises:
        DataError: no such folder, fewer than two classes, or a class without images.
    """
    if not Path(folder).is_dir():
        raise DataError(where=folder, expected="a folder for each class", found="no such folder", kind="missing-file")
    classes = sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        expected, found = "a folder for each of at least two classes", str(len(classes))
        raise DataError(where=folder, expected=expected, found=found, kind="empty-file")
    files: list[tuple[str, int]] = []
    for number, name in enumerate(classes):
        files += [(str(path), number) for path in images_in(Path(folder, name))]
    return files, classes


def images_in(folder: Path) -> list[Path]:
    """All image files under a folder, by name.

    Raises:
        DataError: there is no such folder, or there are none in it.
    """
    if not folder.is_dir():
        raise DataError("no such folder", where=str(folder), kind="missing-file")
    inside = sorted(folder.rglob("*"))
    images = [p for p in inside if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()]
    if not images:
        expected = f"images ({', '.join(SUFFIXES)})"
        raise DataError(where=str(folder), expected=expected, found="none", kind="empty-file")
    return images
