"""`mllm model show CONFIG`: the tree of modules, and the memory that a training step would take.

The model is built without its weights: of folders only config.json, and the tokenizer where there is one, is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mllm.boundary import reported


def main(argv: Sequence[str]) -> int:
    """Exit status 0; 1 for what a user can mend; argparse's own 2 for a wrong command line."""
    given = _parser().parse_args(argv)
    return reported(lambda: _show(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mllm model", description=__doc__)
    show = parser.add_subparsers(required=True, metavar="show").add_parser("show", description=__doc__)
    show.add_argument("config", metavar="CONFIG.py")
    show.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    show.add_argument("--devices", type=_count, default=4, help="over which FSDP shards everything (default 4)")
    show.add_argument("--batch-size", type=_count, help="rows a device (default: per_device_train_batch_size)")
    show.add_argument(
        "--length", type=_count, help="tokens of a row (default: data_args.max_length, else an image's + 256)"
    )
    return parser


def _show(given: argparse.Namespace) -> None:
    from mllm.commands.model.show import show

    show(given)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {text}")
    return number
