r"""How the public scorers of referring expressions read an answer, each as its code does, oddities included.

Each takes the answer's text, the true box in pixels of the original image, and the image's size, and gives the IoU that
its code would compute, or None where the code finds no box: a box without area in all of them, and so wrong.

| reading | box | scale | right |
|---|---|---|---|
| internvl | the first four fields between brackets | 1000, or fractions where they sum up to less than 4 | >= 0.5 |
| qwen_vl | the first `(x1,y1),(x2,y2)` | 999 | >= 0.5 |
| qwen3_vl | the first object of a JSON list with four numbers in `bbox_2d` | 1000 | >= 0.5 |
| cogvlm | the box around all boxes in `[[x1,y1,x2,y2;...]]` | 1000 | > 0.5 |
| shikra | the only `[0.1,0.2,0.3,0.4]`, without spaces | padded square, against the truth in three decimals | > 0.5 |
| minigpt_v2 | `{<a><b><c><d>}` at the beginning | 100; every side is a pixel longer | > 0.5 |
| ferret | the first `[ints]`; one bracket of anything else voids the answer | 1000, cut down to whole pixels | >= 0.5 |
| paligemma | four `<loc0000>` (y first) and 16 `<seg000>` at the beginning | 1023 | >= 0.5 |
| vlmevalkit | the first four numbers, those in brackets first | guessed by their size; clipped, sorted | >= 0.5 |
| lmms_eval | the first `[a, b, c, d]` | fractions | >= 0.5 |
| kosmos2 | the first of the phrase that equals the expression | centres of cells of a 32 x 32 grid | >= 0.5 |
| qwen25_vl | the first `[a, b, c, d]` | pixels of the resized image | > 0.5 |

`qwen25_vl` is VLM-R1's rule: its own authors have published no scorer. It takes the image to be resized by the family's
default bounds. `kosmos2` reads the prompt `<phrase>expression</phrase>` and the answer as one text, as its code does.

Sources: the evaluation scripts of OpenGVLab/InternVL (evaluate_grounding.py), QwenLM/Qwen-VL (evaluate_grounding.py),
QwenLM/Qwen3-VL (evaluation/ODinW-13), THUDM/CogVLM (grounding_parser.py, issue 127), shikras/shikra (rec.py,
box_process_function.py), Vision-CAIR/MiniGPT-4 (eval_ref.py, eval_utils.py), apple/ml-ferret (eval_refexp.py),
google-research/big_vision (paligemma/transfers/segmentation.py), open-compass/VLMEvalKit (refcoco.py),
EvolvingLMMs-Lab/lmms-eval (refcoco/utils_rec.py), microsoft/unilm (kosmos-2/evaluation/refcoco: refexp_evaluate.py,
decode_string.py), om-ai-lab/VLM-R1 (src/eval/test_rec_baseline.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, cast

import numpy as np

from mllm.compat.transformers_files import size_in_multiples
from mllm.geometry import MAX_PIXELS, MIN_PIXELS, PATCHES, pad_to_square

Corners = tuple[float, float, float, float]
Size = tuple[int, int]
BEYOND = 1e12
KOSMOS2_CELLS = 32

_INTERNVL = re.compile(r"\[*\[(.*?),(.*?),(.*?),(.*?)\]\]*")
_QWEN_VL = re.compile(r"\((.*?)\),\((.*?)\)")
_COGVLM = re.compile(r"\[\[(.*?)\]\]")
_SHIKRA_BOX = r"\d(?:\.\d*)?(?:,\d(?:\.\d*)?){3}"
_SHIKRA = re.compile(rf"\[({_SHIKRA_BOX}(?:;{_SHIKRA_BOX})*)\]")
_MINIGPT = re.compile(r"\{<(\d{1,3})><(\d{1,3})><(\d{1,3})><(\d{1,3})>\}")
_PALIGEMMA = re.compile(r"((?:<loc\d{4}>){4})\s*(?:<seg\d{3}>){16}")
_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_BRACKETED = re.compile(r"\[\s*" + r"(?:\s*,\s*|\s+)".join([f"({_NUMBER})"] * 4) + r"\s*\]")
_VLM_R1 = re.compile(r"\[" + ",".join([r"\s*(-?\d*\.?\d+)\s*"] * 4) + r"\]")
_LMMS_EVAL = re.compile(r"\[\s*" + r",\s*".join([r"(-?\d+(?:\.\d+)?)"] * 4) + r"\s*\]")
_KOSMOS2_PHRASE = re.compile(r"<phrase>([^<]+)</phrase>")
_PATCH_PAIR = r"<patch_index_(\d{1,9})><patch_index_(\d{1,9})>"
_KOSMOS2 = re.compile(
    rf"(?:<phrase>([^<]+)</phrase>)?<object>{_PATCH_PAIR}(?:</delimiter_of_multi_objects/>|</object>)"
)
_FENCED = re.compile(r"```(?:json)?\s*(.*?)(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicReading:
    """One public scorer.

    Attributes:
        iou: of the answer's text, the true box in pixels and the image's (width, height); None where it reads no box.
        ties: whether an IoU of exactly the threshold is right.
        prompt: what the code reads before the answer; `{}` stands for the expression.
    """

    iou: Callable[[str, Corners, Size], float | None]
    ties: bool
    prompt: str = ""

    def is_right(self, iou: float, threshold: float) -> bool:
        return iou >= threshold if self.ties else iou > threshold


def _internvl(text: str, truth: Corners, size: Size) -> float | None:
    match = _INTERNVL.search(text)
    values = None if match is None else _floats(match.groups())
    if values is None:
        return None
    with np.errstate(all="ignore"):
        box = np.array(values, dtype=np.float32)
        if box.sum() >= 4:
            box = box / 1000
        return _torch_iou(box * np.array(size * 2, dtype=np.float32), truth)


def _qwen_vl(text: str, truth: Corners, size: Size) -> float | None:
    match = _QWEN_VL.search(text)
    if match is None:
        return None
    corners = [_floats(group.split(",")) for group in match.groups()]
    if any(corner is None or len(corner) != 2 for corner in corners):
        return None
    with np.errstate(all="ignore"):
        box = np.array([value for corner in corners for value in corner or ()], dtype=np.float32) / 999
        return _torch_iou(box * np.array(size * 2, dtype=np.float32), truth)


def _qwen3_vl(text: str, truth: Corners, size: Size) -> float | None:
    fenced = _FENCED.search(text)
    try:
        read: Any = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    objects = cast("list[Any]", read if isinstance(read, list) else [read])
    values = [cast("dict[str, Any]", each).get("bbox_2d") for each in objects if isinstance(each, dict)]
    boxes = (cast("list[Any]", value) for value in values if isinstance(value, list))
    box = next((box for box in boxes if len(box) == 4 and all(type(number) in (int, float) for number in box)), None)
    return None if box is None else _iou(_scaled(box, 1000, size), truth)


def _cogvlm(text: str, truth: Corners, size: Size) -> float | None:
    groups = [group.split(";") for group in _COGVLM.findall(text)]
    rows = [box.split(",") for group in groups for box in group if box.replace(",", "").isdigit()]
    boxes = [values for row in rows if (values := _floats(row)) is not None and len(values) == 4]
    if not boxes:
        return None
    around = [pick(box[axis] for box in boxes) for axis, pick in enumerate((min, min, max, max))]
    return _iou(_scaled(around, 1000, size), truth)


def _shikra(text: str, truth: Corners, size: Size) -> float | None:
    groups = [group.split(";") for group in _SHIKRA.findall(text)]
    if len(groups) != 1 or len(groups[0]) != 1:
        return None
    square = pad_to_square(size)
    target = (*square.to_unit(*truth[:2]), *square.to_unit(*truth[2:]))
    box = np.array([float(value) for value in groups[0][0].split(",")], dtype=np.float32)
    return _torch_iou(box * 1000, tuple(float(f"{value:.3f}") * 1000 for value in target))


def _minigpt_v2(text: str, truth: Corners, size: Size) -> float | None:
    match = _MINIGPT.match(text.replace("<unk>", "").replace(" ", "").strip())
    if match is None:
        return None
    return _iou(_scaled([int(value) for value in match.groups()], 100, size), truth, more=1)


def _ferret(text: str, truth: Corners, size: Size) -> float | None:
    boxes: list[list[int]] = []
    start = 0
    for place, sign in enumerate(text):
        if sign == "[":
            start = place + 1
        elif sign == "]":
            try:
                boxes.append([int(value) for value in text[start:place].strip().split(",")])
            except ValueError:
                return None
            start = place + 1
            while start < len(text) and text[start] not in ".,;!?":
                start += 1
            start += 1
    if not boxes or any(len(box) < 4 for box in boxes):
        return None
    bounded = [max(-BEYOND, min(value, BEYOND)) for value in boxes[0][:4]]
    whole = [int(value * (size[axis % 2] / 1000)) for axis, value in enumerate(bounded)]
    return _torch_iou(np.array(whole, dtype=np.float32), truth)


def _paligemma(text: str, truth: Corners, size: Size) -> float | None:
    match = _PALIGEMMA.match(text.lstrip())
    if match is None:
        return None
    y1, x1, y2, x2 = (int(value) / 1023 for value in re.findall(r"\d{4}", match[1]))
    if y2 <= y1 or x2 <= x1:
        return None
    return _iou((x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]), truth)


def _vlmevalkit(text: str, truth: Corners, size: Size) -> float | None:
    match = _BRACKETED.search(text)
    numbers = list(match.groups()) if match else re.findall(_NUMBER, text)[:4]
    if len(numbers) < 4:
        return None
    values = [float(number) for number in numbers]
    largest = max(map(abs, values))
    scale = (1, 1) if largest > 1000 else size if largest <= 1.5 else (size[0] / 1000, size[1] / 1000)
    x1, y1, x2, y2 = (min(max(value * scale[axis % 2], 0), size[axis % 2]) for axis, value in enumerate(values))
    return _iou((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), truth)


def _lmms_eval(text: str, truth: Corners, size: Size) -> float | None:
    match = _LMMS_EVAL.search(text)
    if match is None:
        return None
    return _iou([float(value) for value in match.groups()], _scaled(truth, 1, (1 / size[0], 1 / size[1])))


def _kosmos2(text: str, truth: Corners, size: Size) -> float | None:
    asked = _KOSMOS2_PHRASE.search(text)
    named = ((match[1] or "", match) for match in _KOSMOS2.finditer(text))
    found = next((match for name, match in named if asked is not None and name.strip() == asked[1].strip()), None)
    if found is None:
        return None
    (y1, x1), (y2, x2) = (divmod(int(index), KOSMOS2_CELLS) for index in found.groups()[1:])
    start, end = (0.0, 1.0) if x1 == x2 or y1 == y2 else (0.5, 0.5)
    return _iou(_scaled((x1 + start, y1 + start, x2 + end, y2 + end), KOSMOS2_CELLS, size), truth)


def _qwen25_vl(text: str, truth: Corners, size: Size) -> float | None:
    match = _VLM_R1.search(text)
    if match is None:
        return None
    try:
        height, width = size_in_multiples(size[1], size[0], factor=PATCHES, least=MIN_PIXELS, most=MAX_PIXELS)
    except ValueError:  # an image too narrow for the family
        return None
    values = [max(-BEYOND, min(float(number), BEYOND)) for number in match.groups()]
    sides = (size[0] / width, size[1] / height)
    return _iou([value * sides[axis % 2] for axis, value in enumerate(values)], truth)


READINGS: Mapping[str, PublicReading] = {
    "internvl": PublicReading(iou=_internvl, ties=True),
    "qwen_vl": PublicReading(iou=_qwen_vl, ties=True),
    "qwen3_vl": PublicReading(iou=_qwen3_vl, ties=True),
    "cogvlm": PublicReading(iou=_cogvlm, ties=False),
    "shikra": PublicReading(iou=_shikra, ties=False),
    "minigpt_v2": PublicReading(iou=_minigpt_v2, ties=False),
    "ferret": PublicReading(iou=_ferret, ties=True),
    "paligemma": PublicReading(iou=_paligemma, ties=True),
    "vlmevalkit": PublicReading(iou=_vlmevalkit, ties=True),
    "lmms_eval": PublicReading(iou=_lmms_eval, ties=True),
    "kosmos2": PublicReading(iou=_kosmos2, ties=True, prompt="<phrase>{}</phrase>"),
    "qwen25_vl": PublicReading(iou=_qwen25_vl, ties=False),
}


def _scaled(box: Sequence[float], full: int, size: tuple[float, float]) -> list[float]:
    """`full` becomes the width or height; a number beyond all images stays beyond them."""
    return [max(-BEYOND, min(value, BEYOND)) / full * size[axis % 2] for axis, value in enumerate(box)]


def _floats(texts: Sequence[str]) -> list[float] | None:
    """The numbers as Python reads them, `1e3` and `nan` among them; None where one is no number."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def _iou(box: Sequence[float], truth: Sequence[float], *, more: float = 0) -> float:
    """The areas may be negative, as in the public codes; `more` is added to every side."""
    width, height = (min(box[axis + 2], truth[axis + 2]) - max(box[axis], truth[axis]) + more for axis in (0, 1))
    overlap = max(0.0, width) * max(0.0, height)
    areas = [(each[2] - each[0] + more) * (each[3] - each[1] + more) for each in (box, truth)]
    union = sum(areas) - overlap
    return overlap / union if union and isfinite(union) else 0.0


def _torch_iou(box: Any, truth: Sequence[float]) -> float:
    """As `torchvision.ops.box_iou`, in single precision: what lies on the threshold is decided by its rounding."""
    target = np.array(truth, dtype=np.float32)
    with np.errstate(all="ignore"):
        sides = np.clip(np.minimum(box[2:], target[2:]) - np.maximum(box[:2], target[:2]), 0, None)
        overlap = sides[0] * sides[1]
        areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (box, target)]
        union = areas[0] + areas[1] - overlap
        return float(overlap / union) if union and isfinite(union) else 0.0
