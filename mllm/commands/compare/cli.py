"""`mllm compare A B`: is one model better than the other on the same items?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mllm.errors import ConfigError

if TYPE_CHECKING:
    from mllm.commands.compare.comparing import Compared


def compare(
    files: Annotated[
        list[str],
        typer.Argument(metavar="A B ...", help="Files ..._extra_prediction.jsonl of the same items, or folders."),
    ],
    flipped: Annotated[int, typer.Option(min=0, help="Number of answers to show that only one model gets right.")] = 6,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output_dir", metavar="DIR", help="Write compare.html here: all answers side by side."),
    ] = None,
) -> None:
    """Compare the answers of two or more models to the same items, each model with the first.

    Shown are the difference of the mean scores with its 95 % interval (a bootstrap over images), McNemar's exact test
    where answers are right or wrong, the answers that only one of them gives, and how many items a smaller difference
    would need.

    mllm compare outputs/run1 outputs/run2 --output_dir outputs/comparison
    """
    if len(files) < 2:
        raise ConfigError(expected="at least two predictions files", found=f"only {files[0]}")
    from mllm.commands.compare.comparing import compared, read_all

    first, *others = read_all(files)
    comparisons = [compared(first, other) for other in others]
    print("\n\n".join(_text(found, flipped) for found in comparisons))
    if output_dir is not None:
        from mllm.commands.compare.page import write_comparison

        print(f"page: {write_comparison(output_dir, [first, *others], comparisons)}")


def _text(found: Compared, shown: int) -> str:
    from mllm.commands.compare.comparing import verdict

    difference = found.difference
    lines = [
        f"A  {found.a.name}: {difference.a:.4f}",
        f"B  {found.b.name}: {difference.b:.4f}",
        f"B - A: {_signed(difference.difference)}, 95 % interval {_signed(difference.interval.low)} to "
        f"{_signed(difference.interval.high)}, over {difference.images} images with {difference.count} answers",
    ]
    if difference.p is not None:
        only = f"only A is right: {difference.only_a}; only B is right: {difference.only_b}"
        lines.append(f"{only}; McNemar's p = {difference.p:.3g}")
    lines.append(verdict(difference))
    for name, parts in found.parts.items():
        lines.append(f"B - A by {name}:")
        for value, part in parts.items():
            bounds = f"{_signed(part.interval.low)} to {_signed(part.interval.high)}"
            lines.append(f"  {value:24.24}{_signed(part.difference):>9}  {bounds}  {part.count} answers")
    pairs = found.flipped
    gained = [pair for pair in pairs if pair[0]["score"] < pair[1]["score"]][:shown]
    lost = [pair for pair in pairs[::-1] if pair[0]["score"] > pair[1]["score"]][:shown]
    for title, some in (("better in B:", gained), ("better in A:", lost)):
        if some:
            lines.append(title)
        for a, b in some:
            lines.append(f"  {a['key']}")
            lines += [f"    A  {a['score']:.2f}  {a['text']:.100}", f"    B  {b['score']:.2f}  {b['text']:.100}"]
    return "\n".join(lines)


def _signed(value: float) -> str:
    return f"{value:+.4f}"
