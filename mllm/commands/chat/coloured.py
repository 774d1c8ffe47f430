"""An answer in a terminal: phrases and coordinates in the colours of their boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from mllm.errors import printable
from mllm.report.drawing import colour_of
from mllm.serve.reading import Region


def coloured(text: str, regions: Sequence[Region]) -> Text:
    """The text with each region's phrase in bold and its form dim, in the region's colour (`colour_of`)."""
    styles = [""] * len(text)
    for region in regions:
        colour = colour_of(region.index)
        for span, style in ((region.span, f"dim {colour}"), (region.phrase, f"bold {colour}")):
            if span is not None:
                styles[slice(*span)] = [style] * (span[1] - span[0])
    shown = Text()
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or styles[end] != styles[start]:
            shown.append(printable(text[start:end], keep="\n\t"), styles[start])
            start = end
    return shown


def region_lines(regions: Sequence[Region]) -> Iterator[Text]:
    """A line for each box and point, with the phrase that it is about."""
    for region in regions:
        label = f"  {printable(region.label)}" if region.label else ""
        on = f"  image {region.image}" if region.image else ""
        for kind, numbers in (
            *(("box", box.xyxy) for box in region.boxes),
            *(("point", point.xy) for point in region.points),
        ):
            line = f"{kind:5} {' '.join(f'{value:.1f}' for value in numbers)}{on}{label}"
            yield Text(line, style=colour_of(region.index))
        if region.failure:
            yield Text(f"cannot be read: {region.failure}", style="dim")
