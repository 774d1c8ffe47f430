"""The names of images that annotations call by a number."""

from __future__ import annotations

import re
from typing import Annotated, Any

from mllm.fields import Fits
from mllm.json_fields import ID, field

_PLACE = re.compile(r"\{(?::0(\d{1,3}))?\}")
NameTemplate = Annotated[str, Fits("a text with {} or {:012} in it once", lambda text: len(_PLACE.findall(text)) == 1)]


class ImageName:
    """A file name with `{}` where the id goes, or `{:012}` where it goes with zeros in front up to 12 digits."""

    def __init__(self, template: NameTemplate) -> None:
        self._before, digits, self._after = _PLACE.split(template)
        self._digits = int(digits or 0)

    def of(self, line: dict[str, Any], name: str) -> str:
        """The file of the image whose id is `line[name]`."""
        given = field(line, name, ID)
        return f"{self._before}{str(given).zfill(self._digits)}{self._after}"
