"""The names of pictures that annotations call by a number."""

from __future__ import annotations

import re
from typing import Any

from mllm.errors import ConfigError
from mllm.fields import ID, field

_PLACE = re.compile(r"\{(?::0(\d+))?\}")


class PictureName:
    """A file name with `{}` where the id goes, or `{:012}` where it goes with zeros in front up to 12 digits.

    Raises:
        ConfigError: neither, or several; `where` names the argument.
    """

    def __init__(self, template: str, where: str) -> None:
        found = _PLACE.findall(template)
        if len(found) != 1:
            raise ConfigError(field=where, expected="{} once", found=repr(template))
        self._before, _, self._after = _PLACE.split(template)
        self._digits = int(found[0] or 0)

    def of(self, line: dict[str, Any], name: str) -> str:
        """The file of the picture whose id is `line[name]`."""
        given: object = field(line, name, ID)
        return f"{self._before}{str(given).zfill(self._digits)}{self._after}"
