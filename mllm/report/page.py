"""HTML pages that fetch nothing and run no script: style, images and drawings are inside them."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

MAX_SIDE = 480
"""Longest side of an embedded image, in pixels: 72 photos make a page of about 4 MB."""
PIXEL_ART_SIDE = 128
"""Images up to this side, in pixels, are embedded without loss and enlarged without smoothing."""


def write(path: str | Path, template: str, **values: Any) -> None:
    """Fill a template of this package; the folder of `path` exists."""
    page = _templates().get_template(template).render(**values)
    # a lone surrogate in an annotation has no encoding
    Path(path).write_text(page, encoding="utf-8", errors="replace")


@cache
def _templates() -> Environment:
    """The same for every page: it keeps templates compiled."""
    return Environment(
        loader=PackageLoader("mllm", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embedded(image: Image.Image) -> dict[str, Any]:
    """A copy small enough to embed, and the size of the image itself: what is drawn over it keeps its coordinates."""
    width, height = image.size
    small = image.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    pixel_art = max(width, height) <= PIXEL_ART_SIDE
    buffer = BytesIO()
    if pixel_art:
        small.save(buffer, "PNG")
    else:
        small.save(buffer, "JPEG", quality=82)
    kind = "png" if pixel_art else "jpeg"
    return {
        "uri": f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode('ascii')}",
        "width": width,
        "height": height,
        "pixel_art": pixel_art,
    }
