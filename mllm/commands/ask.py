"""`mllm predict --model DIR --image FILE --prompt TEXT`: one question, no config."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mllm.boundary import reported


def main(argv: Sequence[str]) -> int:
    """`mllm predict --model DIR --image FILE --prompt TEXT`: exit status as of every command."""
    given = _parser().parse_args(argv)
    return reported(lambda: _answer(given))


def _answer(given: argparse.Namespace) -> None:
    from mllm.serve.session import answer

    answer(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mllm predict --model", description="Ask a model one question, with or without images."
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="folder of a trained model")
    parser.add_argument("--prompt", required=True, help="the question; <image> marks the images, <boxes> the boxes")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="an image; may be repeated")
    parser.add_argument(
        "--box", action="append", default=[], type=_box, metavar="X1,Y1,X2,Y2", help="in pixels, for the next <boxes>"
    )
    parser.add_argument(
        "--answer-image",
        type=int,
        metavar="N",
        help="of several images the one, from 0, that the answer is about; default: that of the box, else the first",
    )
    parser.add_argument(
        "--draw",
        metavar="FILE",
        help="write the image with the answer's boxes and points here; where there are several, the second to FILE_2",
    )
    parser.add_argument("--max_new_tokens", type=int, default=64)
    parser.add_argument("--num_beams", type=int, default=1)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16", "auto"))
    parser.add_argument("--type", help="type of the model, where its folder does not say it")
    parser.add_argument("--codec", help="how it writes boxes; default: as it was trained")
    parser.add_argument("--template", help="default: as it was trained; completion: the prompt as it is")
    parser.add_argument("--placement", choices=("pad", "crop", "squash"), help="default: as it was trained")
    return parser


def _box(text: str) -> list[float]:
    values = [float(value) for value in text.split(",")]
    if len(values) != 4:
        raise ValueError(text)
    return values
