"""The example set, and a copy of it that has a fault of each kind, with the line that `mllm data check` owes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from tests.pipeline.tiny import CONFIG

ROOT = Path(__file__).parents[3]
PHOTOS = ROOT / "examples" / "coco_photos"
MAX_LENGTH = 120
Edit = Callable[[dict[str, Any]], Any]


def box(*values: float) -> Edit:
    return lambda line: {**line, "bbox": list(values)}


def field(**values: Any) -> Edit:
    return lambda line: {**line, **values}


def without(name: str) -> Edit:
    return lambda line: {key: value for key, value in line.items() if key != name}


# the first image: 640 x 422
LINES: list[tuple[Edit, str]] = [
    (lambda line: json.dumps(line)[:-20].encode(),
     "expected a JSON object, found '...509.63, 345.38, 611.73, 417.7], \"width\":': Expecting value in column 108"),
    (lambda line: [line], "expected a JSON object, found list [json]"),
    (lambda line: '{"img_path": "café.jpg"}'.encode("latin-1"),
     "expected UTF-8, found byte 0xe9 in column 18 [encoding]"),
    (lambda line: b"", "expected a JSON object, found a blank line [blank-line]"),
    (without("expression"),
     "expression: expected a text, found nothing (the record has img_path, bbox, width, height) [missing-field]"),
    (field(expression=7), "expression: expected a text, found int '7' [wrong-type]"),
    (box(1, 2, 3), "target.boxes[0]: expected 4 numbers, found list '[1, 2, 3]' [coordinates]"),
    (field(bbox=["1", "2", "3", "4"]),
     "target.boxes[0]: expected 4 numbers, found list \"['1', '2', '3', '4']\" [coordinates]"),
    (box(1, 2, float("nan"), 9),
     "target.boxes[0]: expected four finite numbers, found [1, 2, nan, 9] [not-finite]"),
    (box(500, 300, 100, 70),
     "target.boxes[0]: expected x1 <= x2 and y1 <= y2 (xyxy, not xywh), found [500, 300, 100, 70] "
     "[inverted-box]"),
    (box(0.2, 0.3, 0.5, 0.9),
     "target.boxes[0]: expected pixels of a 640 x 422 image, found [0.2, 0.3, 0.5, 0.9]: fractions of it? "
     "[fractions]"),
    (box(20, 30, 20, 90), "target.boxes[0]: expected a box with an area, found [20, 30, 20, 90] [empty-box]"),
    (box(20, 30, 700, 90),
     "target.boxes[0]: expected a box inside the 640 x 422 image, found [20, 30, 700, 90] [box-outside]"),
    (field(img_path="gone.jpg"), "image: <images>/gone.jpg: no such image [missing-image]"),
    (field(img_path="text.jpg"), "image: <images>/text.jpg: expected an image, one of "),
    (field(img_path="cut.jpg"),
     "image: <images>/cut.jpg: cannot be decoded: image file is truncated (22 bytes not processed) "
     "[truncated-image]"),
    (field(width=320, height=211), "width, height: expected 640 x 422, the image's, found 320 x 211 [image-size]"),
    (field(img_path="turned.jpg", bbox=[1, 2, 30, 40]),
     "width, height: expected 422 x 640, the image's, found 640 x 422: the size before its EXIF "
     "orientation is applied; its boxes may be measured so too [turned-image]"),
    (lambda line: line, ""),
    (lambda line: line, "the same line as <lines>:19 [duplicate-line]"),
    (field(expression=" "), "expression: expected words, found ' ' [blank-text]"),
    (field(expression="the <boxes>"),
     "expression: expected a text without the reserved <boxes>, found 'the <boxes>' [reserved-word]"),
    (field(img_path="petrel://photos/a.jpg"),
     "image: images in ceph need the package petrel_client, which comes with the ceph cluster, not from PyPI [setup]"),
    (field(img_path="\x1b[2J\n.jpg"), "image: <images>/\\x1b[2J\\n.jpg: no such image [missing-image]"),
    (field(width="640", height="422"),
     "width, height: expected 640 x 422, the image's, found '640' x '422' [image-size]"),
]  # fmt: skip
"""Of a referring expressions file, line by line: what is done to a sound line, and what is to be said of it."""


def turns(*values: Any, **fields: Any) -> dict[str, Any]:
    """A conversation: texts by human and gpt in turn, or turns as they stand."""
    said = [
        {"from": ("human", "gpt")[number % 2], "value": value} if isinstance(value, str) else value
        for number, value in enumerate(values)
    ]
    return {"image": "000000000790.jpg", "conversations": said, **fields}


ASK = "<image>\nWhere?"
TALKS: list[tuple[dict[str, Any], str]] = [
    (turns(ASK, {"from": "gpt", "value": "<boxes> <boxes>", "boxes_seq": [[0]]}, target={"boxes": [[1, 2, 30, 40]]}),
     "conversations[1].boxes_seq: expected 2 group(s), one for each <boxes> in the text, found 1 [placeholder-count]"),
    (turns(ASK, {"from": "gpt", "value": "<boxes>", "boxes_seq": [[1]]}, target={"boxes": [[1, 2, 30, 40]]}),
     "conversations[1].boxes_seq[0]: expected an index from 0 to 0 (the target holds 1), found 1 [region-index]"),
    (turns(ASK, {"from": "human", "value": "Well?"}),
     "conversations[1].from: expected 'gpt' (turns alternate), found 'human' [turn-order]"),
    (turns(ASK, {"from": "assistant", "value": "There."}),
     "conversations[1].from: expected 'human' or 'gpt', found str 'assistant' [role]"),
    (turns(ASK, " "), "conversations[1].value: expected an answer, found ' ' [empty-answer]"),
    (turns(image=None), "conversations: expected at least one turn, found none [no-turns]"),
    (turns(ASK, "See <image>"),
     "conversations[1].value: expected <image> in human turns only, found it in an answer [image-in-answer]"),
    (turns("<image><image>\nWhere?", "There."),
     "conversations: expected 1 <image>, one for each image, found 2 [image-count]"),
    (turns(ASK, "There.", target={"box": [[1, 2, 3, 4]]}),
     "target: expected one of boxes, boxes_image, boxes_frame, boxes_time, points, points_image, "
     "points_frame, points_time, labels, spans, found 'box' [unknown-field]"),
    (turns(ASK, {"from": "gpt", "value": "<points>", "points_seq": [[0]]}, target={"points": [[10, 500]]}),
     "target.points[0]: expected a point inside the 640 x 422 image, found [10, 500] [point-outside]"),
    (turns(ASK), "conversations: expected an answer to train on, found none [unlearned]"),
    (turns(ASK, "well " * 150), "max_length: 42 of 152 tokens of the answer are cut off [cut-answer]"),
    (turns("well " * 150 + "<image>", "No."),
     "max_length: expected at least 156, so that no image is cut, found 120 [cut-image]"),
    (turns("well " * 150, "No.", image=None),
     "max_length: expected room for an answer, found all 5 tokens of it cut off [unlearned]"),
    (turns(ASK, "There.", id="a"), ""),
    (turns(ASK, "Here.", id="a"), "id: the same as <talks>:15 [duplicate-id]"),
    (turns(ASK, "There.", image="../a.jpg"), "image: ../a.jpg: leaves its image_folder <images> [image-path]"),
    (turns(ASK, "A smile: \ud83d"),
     "conversations[1].value: expected a text, found half a character, \\ud83d, behind 9 others [half-character]"),
    (turns("<video>\nWhen?", {"from": "gpt", "value": "<spans>", "spans_seq": [[0]]}, image=None,
           video={"frames": ["000000000790.jpg", "000000000790.jpg"], "fps": 1}, target={"spans": [[1, 9]]}),
     "target.spans[0]: expected a time span inside the video of 2 s, found [1, 9] [span-outside]"),
    (turns(ASK, "There.", image=7), "image: expected a path, a URL or a PIL image, found int '7' [image-path]"),
]  # fmt: skip
"""Of an instruction file, likewise."""

MODEL = {**CONFIG["model_args"], "codec": "shikra"}


def write(folder: Path, data: dict[str, Any], **model: Any) -> Path:
    """A config of a tiny model with these data."""
    path = folder / "config.py"
    path.write_text(f"model_args = { ({**MODEL, **model})!r}\ndata_args = {data!r}\n", encoding="utf-8")
    return path


def rec(filename: str | Path, folder: Path = PHOTOS / "images") -> dict[str, Any]:
    questions = str(ROOT / "config" / "questions" / "rec.json")
    return dict(type="REC", filename=str(filename), image_folder=str(folder), questions=questions)


def break_photos(folder: Path) -> tuple[Path, dict[str, str]]:
    """A config that reads the broken copy, and what is to be said of each place that is broken."""
    images, lines, talks = folder / "images", folder / "lines.jsonl", folder / "talks.jsonl"
    images.mkdir()
    for photo in (PHOTOS / "images").iterdir():
        shutil.copy(photo, images)
    photo = (images / "000000000790.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(photo[: len(photo) // 2])
    with Image.open(images / "000000000790.jpg") as image:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        image.save(images / "turned.jpg", exif=exif)
    (images / "text.jpg").write_text("<html>404</html>")
    sound = (PHOTOS / "train.jsonl").read_text().splitlines()
    # each line breaks another sound one, so that none is a duplicate; all are about the first image
    first = [{**json.loads(sound[0]), "expression": f"thing {number}"} for number in range(len(LINES))]
    first[19] = first[18]
    broken = [edit(line) for line, (edit, _) in zip(first, LINES, strict=True)]
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in broken]
    lines.write_bytes(b"\n".join([*raw, *(line.encode() for line in sound[2:])]) + b"\n")
    talks.write_text("".join(json.dumps(talk) + "\n" for talk, _ in TALKS))
    (folder / "empty.jsonl").write_text("\n\n")
    named = {"images": images, "lines": lines, "talks": talks}
    expected: dict[str, str] = {}
    for path, texts in ((lines, [text for _, text in LINES]), (talks, [text for _, text in TALKS])):
        for number, text in enumerate(texts, 1):
            for name, value in named.items():
                text = text.replace(f"<{name}>", str(value))
            if text:
                expected[f"{path}:{number}"] = text
    expected[str(folder / "empty.jsonl")] = "expected at least one record, found none [empty-file]"
    expected[str(folder / "gone.jsonl")] = "cannot be read: No such file or directory [missing-file]"
    data = dict(
        train=dict(
            type="ConcatDataset",
            datasets=[rec(lines, images), dict(type="Instruct", filename=str(talks), image_folder=str(images))],
        ),
        validation=rec(folder / "empty.jsonl", images),
        test=rec(folder / "gone.jsonl", images),
        max_length=MAX_LENGTH,
    )
    return write(folder, data), expected
