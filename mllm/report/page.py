"""HTML pages of style, images, drawings and our own scripts, all inside them; nothing is fetched from a network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

MAX_SIDE = 480
"""Longest side of an embedded image, in pixels: 72 photos make a page of about 4 MB."""
PIXEL_ART_SIDE = 128
"""Images up to this side, in pixels, are embedded without loss and enlarged without smoothing."""


def write(path: str | Path, template: str, *, scripts: Sequence[str] = (), **values: object) -> None:
    """Fill a template of this package; the folder of `path` exists.

    Args:
        scripts: files beside this one that the template puts in as `script`. The page's `policy` permits these, and
            what lies beside the page, whatever gets into the page from the texts of a dataset or a model.
    """
    script = "\n".join(_script(name) for name in scripts)
    page = _templates().get_template(template).render(**values, script=script, policy=_policy(script))
    # a lone surrogate in an annotation has no encoding
    Path(path).write_text(page, encoding="utf-8", errors="replace")


def _policy(script: str) -> str:
    images, style = "img-src data:", "style-src 'unsafe-inline'"
    if not script:
        return f"default-src 'none'; {images}; {style}"
    own = b64encode(sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; {images} 'self' file:; script-src 'sha256-{own}' 'self' file:; {style}"


@cache
def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    """The same for every page: it keeps templates compiled."""
    environment = Environment(
        loader=PackageLoader("mllm", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """A small copy of an image as a file's content.

    Attributes:
        kind: png or jpeg.
        width, height: of the image itself: what is drawn over the copy keeps its coordinates.
        pixel_art: whether it is enlarged without smoothing.
    """

    data: bytes
    kind: str
    width: int
    height: int
    pixel_art: bool


def shrunk(image: Image.Image) -> Shrunk:
    """A copy small enough for a page."""
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
    return Shrunk(data=buffer.getvalue(), kind=kind, width=width, height=height, pixel_art=pixel_art)


def embedded(image: Image.Image) -> dict[str, object]:
    """A small copy inside a page, and the size of the image itself."""
    small = shrunk(image)
    return {
        "uri": f"data:image/{small.kind};base64,{b64encode(small.data).decode('ascii')}",
        "width": small.width,
        "height": small.height,
        "pixel_art": small.pixel_art,
    }
