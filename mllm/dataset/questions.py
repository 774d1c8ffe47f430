"""Question templates: pools of wordings, and safe filling with text that users wrote."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from mllm.errors import ConfigError, DataError
from mllm.fields import FULL, Fits, check, in_field
from mllm.files import read_json
from mllm.json_fields import field, field_name, is_blank
from mllm.json_fields import text as whole
from mllm.types import BOXES, IMAGE, POINTS, SPANS, VIDEO

EXPR, OBJS, QUESTION = "<expr>", "<objs>", "<question>"
"""In templates: a referring expression or noun phrase, the regions asked about, a ready question."""

ANSWER = "<answer>"
"""In the text of an answer: the answer alone."""

BoxAnswer = Annotated[str, Fits(f"a text with {BOXES} in it once", lambda text: text.count(BOXES) == 1)]
"""The text of every answer that is a box."""

_IN_TEMPLATES = (IMAGE, VIDEO, EXPR, OBJS, QUESTION)
_RESERVED = (IMAGE, BOXES, POINTS, SPANS)
_LEADING = re.compile(rf"^\s*(?:{IMAGE})+(?=\S)")
_IMAGES = re.compile(rf"\s*(?:{IMAGE}\s*)+")


class Questions:
    """A pool of question templates: a JSON list of texts, each with every one of `placeholders` exactly once.

    Raises:
        ConfigError: no such file, not a list of texts, or an entry whose placeholders are not those declared.
    """

    def __init__(self, path: str, placeholders: Sequence[str] = (IMAGE,)) -> None:
        self.path = path
        self.templates = _read(path)
        for number, template in enumerate(self.templates):
            for placeholder in (*_IN_TEMPLATES, BOXES, POINTS, SPANS):
                expected, found = int(placeholder in placeholders), template.count(placeholder)
                if found != expected:
                    raise ConfigError(
                        where=path,
                        field=f"entry {number}",
                        expected=f"{placeholder} {_times(expected)}",
                        found=_times(found),
                    )

    def __len__(self) -> int:
        return len(self.templates)

    def draw(self, rng: random.Random | None) -> str:
        """One template; the first where `rng` is None (evaluation)."""
        return self.templates[0] if rng is None else rng.choice(self.templates)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put each value in place of its placeholder. Values are never read again, whatever signs they hold.

    Raises:
        DataError: a value holds a reserved placeholder.
    """
    for placeholder, value in values.items():
        plain(value, placeholder)
    if not values:
        return template
    return re.sub("|".join(map(re.escape, values)), lambda match: values[match[0]], template)


def plain(text: str, name: str) -> str:
    """`text`, the field `name` of a line, as it is.

    Raises:
        DataError: it holds `<image>`, `<boxes>`, `<points>` or `<spans>`, which would be read as one, or half a
            character.
    """
    in_field(name, whole, text)
    for placeholder in _RESERVED:
        if placeholder in text:
            expected = f"a text without the reserved {placeholder}"
            raise DataError(field=name, expected=expected, found=repr(text[:60]), kind="reserved-word")
    return text


def text_field(line: Mapping[str, Any], name: str, at: str = "") -> str:
    """The text `line[name]`, as it is; see `field`.

    Raises:
        DataError: there is none, it is blank, which a template around it would hide, or as `plain`.
    """
    where = field_name(name, at)
    text = field(line, name, str, at)
    if is_blank(text):
        raise DataError(field=where, expected="words", found=ascii(text[:20]), kind="blank-text")
    return plain(text, where)


def without_image(text: str) -> str:
    """The question without its image: `<image>` is dropped with its line, dropped where words follow it at once at
    the beginning of a line, or put into words.
    """
    lines = [_LEADING.sub("", line) for line in text.split("\n") if not _IMAGES.fullmatch(line)]
    return "\n".join(lines).replace(IMAGE, "the image")


def _times(count: int) -> str:
    return ("nowhere", "once")[count] if count < 2 else f"{count} times"


def _read(path: str) -> list[str]:
    templates = read_json(path, list, ConfigError)
    try:
        check(templates, Annotated[list[str], FULL], ConfigError)
    except ConfigError as error:
        raise error.at(path) from error
    return templates
