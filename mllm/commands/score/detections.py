"""Results of a detector, boxes with scores in COCO's layout, as one prediction for each image of a dataset."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from mllm.commands.score.layouts import FileAnswer
from mllm.commands.score.scoring import Scored
from mllm.convert.conversion import entries, index_by_id
from mllm.dataset.base import Dataset
from mllm.errors import DataError
from mllm.fields import show
from mllm.files import read_json
from mllm.images import FileImage
from mllm.json_fields import field
from mllm.metrics.boxes_f1 import normal_label
from mllm.metrics.outcome import ImageIds
from mllm.types import Box, GroundTruth, Item, Prediction


@dataclass(frozen=True, slots=True)
class _Image:
    """An image of the dataset with the boxes of all items that ask about it."""

    key: str
    name: str
    size: tuple[int, int] | None
    boxes: list[Box]


def detected(answers: Sequence[FileAnswer], items: Dataset, instances: str) -> Scored:
    """Predictions for every image of a dataset, and for the images of `instances` that have no object: boxes on these
    are false positives. An image that the file does not name has no box.

    Boxes on images with objects, none of which the dataset asks for (crowds, those that are too small), are left out.

    Args:
        answers: one for each box, its category's id as the label; `Answer.key` is the id of the image.
        instances: COCO annotations, whose `images` and `categories` give the ids names. Images are told apart by the
            names of their files, without folders.

    Raises:
        DataError: a box has an image or a category that is not known; two items ask for the same boxes; a box of the
            dataset has no label.
    """
    found, path = read_json(instances, dict), Path(instances)
    files = {
        str(n): _file(field(one, "file_name", str, where=at))
        for n, (at, one) in index_by_id(found, "images", path).items()
    }
    names = {
        str(n): field(one, "name", str, where=at) for n, (at, one) in index_by_id(found, "categories", path).items()
    }
    images = _images(items)
    annotations = field(found, "annotations", list, where=path) if "annotations" in found else []
    objects = {str(one.get("image_id")) for _, one in entries(annotations, f"{path}: annotations")}
    if objects:
        images |= {
            file: _Image(f"{path}: image {number}", file, None, [])
            for number, file in files.items()
            if number not in objects and file not in images
        }
    left_out: Counter[str] = Counter()
    boxes: dict[str, list[Box]] = defaultdict(list)
    for answer in answers:
        (box,) = answer.boxes
        file, category = files.get(str(answer.key)), names.get(str(box.label))
        if file is not None and file not in images and str(answer.key) in objects:
            left_out[file] += 1
            continue
        if file is None or file not in images:
            expected = f"an image of the data, by its id in {instances}"
            shown = show(answer.key) + (f" ({file})" if file else "")
            raise DataError(where=answer.where, field="image_id", expected=expected, found=shown, kind="unknown-field")
        if category is None:
            expected = f"a category of {instances}"
            raise DataError(
                where=answer.where, field="category_id", expected=expected, found=str(box.label), kind="unknown-field"
            )
        boxes[file].append(replace(box, label=category))
    if left_out and not boxes:
        expected = f"boxes on the images of the data, by their ids in {instances}"
        raise DataError(where=answers[0].where, field="image_id", expected=expected, found="none", kind="unknown-field")
    predictions = [
        Prediction(
            key=image.key,
            index=index,
            text="",
            boxes=tuple(boxes[file]),
            truth=GroundTruth(boxes=tuple(image.boxes), no_target=not image.boxes),
            image_size=image.size,
        )
        for index, (file, image) in enumerate(images.items())
    ]
    return Scored(
        predictions=predictions,
        images=[image.name for image in images.values()],
        questions=[""] * len(images),
        left_out=_told(left_out),
    )


def _told(left_out: Counter[str]) -> str:
    if not left_out:
        return ""
    return (
        f"{left_out.total()} boxes are left out: on {len(left_out)} images whose objects the dataset does not ask for"
    )


def _images(items: Dataset) -> dict[str, _Image]:
    """The images of the dataset in its order, by the names of their files."""
    items.set_epoch(None)
    name = ImageIds()
    images: dict[str, _Image] = {}
    asked: set[tuple[str, str | None]] = set()
    for index in range(len(items)):
        item = items[index]
        ref, own = _ref(item), name(item)
        file = _file(ref.path)
        image = images.setdefault(file, _Image(item.key, own, ref.size, []))
        if image.name != own:
            raise DataError(where=item.key, field="image", expected=f"one image named {file}", found="a second")
        labels = {normal_label(label) for label in _labels(item)}
        for label in labels:
            if (file, label) in asked:
                raise DataError(
                    where=item.key, expected=f"{file}: {label} once", found="a second item", kind="duplicate"
                )
        asked |= {(file, label) for label in labels}
        image.boxes.extend(item.truth.boxes)
    return images


def _ref(item: Item) -> FileImage:
    ref = item.images[item.answer_image] if item.images else None
    if not isinstance(ref, FileImage):
        raise DataError(where=item.key, field="image", expected="an image in a file of its own", found=show(ref))
    return ref


def _labels(item: Item) -> Iterator[str]:
    for box in item.truth.boxes:
        if box.label is None:
            expected = "a label for each box, to which categories belong"
            raise DataError(where=item.key, field="labels", expected=expected, found="none")
        yield box.label


def _file(path: str) -> str:
    return PurePath(path.replace("\\", "/")).name
