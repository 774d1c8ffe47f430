"""MIMIC-IT: instructions about images and video frames, with related instructions as examples in context.

Source: Li et al. 2023, MIMIC-IT, arXiv 2306.05425, and the files of its release.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from mllm.conversation.convention import ConventionConfig, read_convention
from mllm.conversation.region_conversion import lift_item
from mllm.dataset.files.base64_index import Base64ImageIndex
from mllm.dataset.files.id_index import index_by_id
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.dataset.questions import plain
from mllm.errors import DataError
from mllm.fields import Count, PathName, PositiveInt, in_field, show
from mllm.images import ImageRef, Video
from mllm.json_fields import field
from mllm.records import read_item
from mllm.registry import DATASETS
from mllm.types import IMAGE, Item


@DATASETS.register_module()
class MimicIt:
    """MIMIC-IT: a conversation for each instruction, in which the related ones come first, as turns of their own.

    Args:
        filename: `X_instructions.json`: `{meta, data: {id: {instruction, answer, image_ids, rel_ins_ids}}}`.
        images: `X.json`, `{image id: base64}`, or `X.parquet` with the column `base64`; None for text alone.
        relations: `X_train.json`, `{id: [related ids]}`: which instructions are asked, and what comes before each. By
            default all of `filename`, after their `rel_ins_ids`.
        related: at most so many related instructions, the last ones; None takes all.
        frames: at most so many images of one instruction, evenly spread; None takes all.
        video: the images of an instruction are the frames of a video, behind one `<image>`; the model must take some.
        shared_pictures: the related instructions are earlier rounds about the same images, which stand before the
            first (Otter's IMAGE_TEXT); else each brings its own (IMAGE_TEXT_IN_CONTEXT).
        regions: as for Instruct.

    Raises:
        DataError: files that do not hold this; on access: an instruction's id that is not in them.
        ImageError: on access: an image's id that is not in `images`.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        images: PathName | None = None,
        relations: PathName | None = None,
        related: Count | None = None,
        frames: PositiveInt | None = None,
        video: bool = False,
        shared_pictures: bool = False,
        regions: ConventionConfig | None = None,
    ) -> None:
        self.lines = IndexedJsonl(filename, entries=("data",))
        self.relations = None if relations is None else IndexedJsonl(relations, entries=())
        self.images = None if images is None else Base64ImageIndex(images)
        self.related = related
        self.frames = frames
        self.video = video
        self.shared_pictures = shared_pictures
        self.convention = None if regions is None else in_field("regions", read_convention, regions)
        self._ids = index_by_id(self.lines)

    def __len__(self) -> int:
        return len(self.lines if self.relations is None else self.relations)

    def __getitem__(self, index: int) -> Item:
        if self.relations is None:
            where, line = self.lines.where(index), self.lines[index]
        else:
            where, line = self.relations.where(index), self.relations[index]
        try:
            if self.relations is None:
                query, related = index, field(line, "rel_ins_ids", list)
            else:
                query, related = self._number(line["id"]), field(line, "value", list)
            if self.related is not None:
                related = related[len(related) - min(self.related, len(related)) :]
            numbers = [*map(self._number, related), query]
        except DataError as error:
            raise error.at(where) from error
        return self._item(where, numbers)

    def set_epoch(self, epoch: int | None) -> None:
        """Nothing is drawn."""

    def _item(self, where: str, numbers: Sequence[int]) -> Item:
        images: list[ImageRef] = []
        turns: list[dict[str, Any]] = []
        for place, number in enumerate(numbers):
            shown: list[ImageRef] = []
            if not self.shared_pictures:
                shown = self._images(number)
            elif place == 0:
                shown = self._images(numbers[-1])
            images += shown
            with self._named(number) as line:
                question = plain(field(line, "instruction", str), "instruction")
                answer = plain(field(line, "answer", str), "answer")
            turns += [
                {"from": "human", "value": f"{IMAGE * len(shown)}\n{question}" if shown else question},
                {"from": "gpt", "value": answer},
            ]
        item = read_item({"images": images, "conversations": turns}, key=where)
        return item if self.convention is None else lift_item(item, self.convention)

    def _images(self, number: int) -> list[ImageRef]:
        with self._named(number) as line:
            ids = field(line, "image_ids", list[str])
            if ids and self.images is None:
                raise DataError(
                    field="image_ids",
                    expected="no images, since the dataset has no `images` file",
                    found=f"{len(ids)}",
                    kind="missing-record",
                )
            if self.frames is not None and len(ids) > self.frames:
                last = len(ids) - 1
                steps = max(self.frames - 1, 1)
                ids = [ids[round(step * last / steps)] for step in range(self.frames)]
            found: list[ImageRef] = [] if self.images is None else [self.images[key] for key in ids]
        return [Video(tuple(found))] if self.video and found else found

    @contextmanager
    def _named(self, number: int) -> Generator[dict[str, Any], None, None]:
        """An instruction; what is found wrong with it is named by its place in the file of instructions."""
        line = self.lines[number]
        try:
            yield line
        except DataError as error:
            raise error.at(self.lines.where(number)) from error

    def _number(self, key: Any) -> int:
        """Which record an instruction is."""
        found = self._ids.find(str(key))
        if found is None:
            raise DataError(expected=f"an instruction of {self.lines.path}", found=show(key), kind="missing-record")
        return found[0]
