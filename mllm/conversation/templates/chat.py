"""The tokenizer's own chat template (ChatML, Llama 3, Qwen3, Gemma, ...), whatever it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, TypeVar

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from mllm.answers import end_of_thinking, opened_thinking
from mllm.conversation.rendering import RenderedTurn, TextSpan, end_of_sequence
from mllm.conversation.text_encoder import encoder_of
from mllm.errors import ConfigError
from mllm.registry import TEMPLATES
from mllm.tokenizer_files import token_id
from mllm.types import IMAGE

MARK = re.compile("\ue000(\\d+)\ue001")
ROLES = {"human": "user", "gpt": "assistant"}
TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What a template may raise, which is a program of its own."""
IMAGE_PART = (TextSpan(IMAGE),)
WORD = (TextSpan("a", literal=True),)
QUESTION, ANSWER = RenderedTurn("human", WORD), RenderedTurn("gpt", WORD)
DATE = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
TODAY = datetime(2024, 7, 26)
"""The date of templates that write today's: Llama 3.1's default."""
Result = TypeVar("Result")
BLANKS = "\n\n\n \n\n\n"
"""White space put around contents to see what a template strips from them."""


@dataclass(frozen=True, slots=True)
class TurnLayout:
    """What a template writes around the words of a conversation that ends in an answer."""

    controls: tuple[str, ...]
    """What the template writes before each text, and after the last one, the answer."""
    roles: tuple[str, ...]
    """The role of each."""
    opening: str
    """What opens the answer in its prompt, in place of `controls[-2]`."""
    space: str
    """What the model says before the answer's words."""
    no_thoughts: str
    """What it says before that where it may think and does not."""
    end: str
    """What ends the answer, through its end token."""
    rest: str
    """What the template writes behind that."""


@TEMPLATES.register_module("chat")
class Chat:
    """The tokenizer's own chat template.

    It is rendered with marks in place of words, which are then put back: supervised spans are exact.

    Supervised: an answer through the first special token after it, or where the template writes none, the tokenizer's
    end of sequence. In every round an answer is opened in training as in its prompt.

    Args:
        system: adds a system message.
        variables: are handed to the template.
        parts: contents are lists of images and texts, and the template writes what stands for an image, as those of
            multimodal models do; a line break after `<image>` is then left to it. Default: where the template writes
            the placeholder that the model reads.
        thinking: True: answers hold their thoughts, and are opened as the template opens a generation; where an answer
            holds none, the model says the empty block that the template has for that. False: answers are opened as the
            template opens one without thoughts; where that is with an empty `<think>` block, thoughts that an answer
            holds are left out. None: as True, but the template is not told whether to think, and does as it is used to.
    """

    tokens: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        system: str | None = None,
        variables: dict[str, Any] | None = None,
        parts: bool | None = None,
        thinking: bool | None = False,
    ) -> None:
        self.system = system
        self.thinking = thinking
        told = {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}
        self.variables: dict[str, Any] = {**told, **(variables or {})}
        self.parts = parts
        self._known: dict[tuple[Any, ...], Any] = {}

    def with_system(self, system: str) -> Chat:
        return Chat(system=system, variables=self.variables, parts=self.parts, thinking=self.thinking)

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        self.render([QUESTION, ANSWER, QUESTION, ANSWER], tokenizer)  # what cannot be rendered is refused at once
        return self._layout([QUESTION, ANSWER], tokenizer).end

    def begun(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """The tag that opens thoughts, where the prompt ends in it, and white space behind it; else ""."""
        shapes = tuple(self._shape(turn, tokenizer) for turn in (QUESTION, ANSWER))
        layout = self._once(tokenizer, shapes, partial(self._layout, [QUESTION, ANSWER], tokenizer))
        tag = opened_thinking(layout.opening)
        return layout.opening[layout.opening.rindex(tag) :] if tag else ""

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        pieces: list[TextSpan] = []
        last: TurnLayout | None = None
        shapes = tuple(self._shape(turn, tokenizer) for turn in [*turns, ANSWER])
        for start in range(0, len(turns), 2):
            question, answers = turns[start], turns[start + 1 : start + 2]
            asked = [*turns[: start + 1], *(answers or [ANSWER])]
            # conversations of one shape are laid out alike
            layout = self._once(tokenizer, shapes[: start + 2], partial(self._layout, asked, tokenizer))
            first = 0
            if last:
                self._check_history(last, layout)
                first = len(last.roles)
            controls = [*layout.controls[first:-2], layout.opening]
            pieces.append(TextSpan(controls[0].removeprefix(last.end if last else "")))
            for text, control in zip(self._texts(question, tokenizer), controls[1:], strict=True):
                pieces += [*self._stripped(text, question, tokenizer), TextSpan(control)]
            for answer in answers:
                words = self._stripped(answer.pieces, answer, tokenizer)
                space = layout.space
                if self.thinking is False:
                    words = _without_thoughts(words) if end_of_thinking(layout.opening) else words
                elif end_of_thinking("".join(piece.text for piece in words)) is None:
                    space = layout.no_thoughts
                else:
                    words = _without_tag(words, layout.opening)
                said = [TextSpan(space), *words, TextSpan(layout.end)]
                pieces += [replace(piece, supervised=True) for piece in said]
            last = layout
        return [*pieces, TextSpan(last.rest)] if last and turns[-1].role == "gpt" else pieces

    def _check_history(self, last: TurnLayout, layout: TurnLayout) -> None:
        """What stood around earlier turns must stand there still.

        Raises:
            ConfigError: it does not, so that a later prompt is not what was trained.
        """
        self._check_same(last.controls[:-1], layout.controls, last.roles)
        behind = layout.controls[len(last.roles)]
        if last.controls[-1].startswith(last.end) and not behind.startswith(last.end):
            self._check_same([last.end], [behind], ["user"])

    def _check_same(self, before: Sequence[str], after: Sequence[str], roles: Sequence[str]) -> None:
        """Control texts must be the same, but for those that open answers, which are written from one place."""
        for was, now, role in zip(before, after, roles, strict=False):
            if was != now and role != "assistant":
                advice = "leave `system` out, or " if self.system is not None else ""
                raise ConfigError(
                    f"template 'chat': the chat template of the tokenizer writes {was[-60:]!r}, but {now[-60:]!r} once "
                    f"other turns follow, so prompts would differ from training; {advice}name another template"
                )

    def _layout(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> TurnLayout:
        """Of a conversation that ends in an answer."""
        roles = [ROLES[turn.role] for turn in turns for _ in self._texts(turn, tokenizer)]
        controls = self._controls(turns, tokenizer)
        asked = self._controls(turns[:-1], tokenizer)
        self._check_same(asked[:-1], controls, roles)
        prompt, written = asked[-1], controls[-2]
        follows = written[len(prompt) :] if written.startswith(prompt) else None
        no_thoughts = ""
        if self.thinking is not False:
            opening, no_thoughts = prompt, _end_of_no_thoughts(prompt) if follows is None else follows
            space = no_thoughts[: len(no_thoughts) - len(no_thoughts.lstrip())] if no_thoughts.strip() else no_thoughts
            space = "" if opened_thinking(prompt) else space
        elif follows is not None and not follows.strip():
            opening, space = prompt, follows
        else:
            opening = written.rstrip(" ")
            space = written[len(opening) :]
        end, rest = self._split_end(controls[-1], tokenizer)
        if not end:  # it may be the token that opens the next question
            end, _ = self._split_end(self._controls([*turns, QUESTION], tokenizer)[len(roles)], tokenizer)
        end = end or end_of_sequence(tokenizer)
        return TurnLayout(tuple(controls), tuple(roles), opening, space, no_thoughts, end, rest)

    def _controls(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """The text before, between and after the texts of a turn; after a question, what opens an answer too."""
        parts = MARK.split(self._text(turns, tokenizer))
        texts = sum(len(self._texts(turn, tokenizer)) for turn in turns)
        if [int(number) for number in parts[1::2]] != list(range(texts)):
            written = MARK.sub("...", "...".join(parts[::2]))
            raise ConfigError(
                field="template 'chat'",
                expected="a chat template that writes all turns in their order",
                found=f"the tokenizer's, which writes {written!r}",
            )
        return parts[::2]

    def _shape(self, turn: RenderedTurn, tokenizer: PreTrainedTokenizerBase) -> tuple[object, ...]:
        return turn.role, *(content is IMAGE_PART for content in self._contents(turn, tokenizer))

    def _texts(self, turn: RenderedTurn, tokenizer: PreTrainedTokenizerBase) -> list[tuple[TextSpan, ...]]:
        return [content for content in self._contents(turn, tokenizer) if content is not IMAGE_PART]

    def _contents(self, turn: RenderedTurn, tokenizer: PreTrainedTokenizerBase) -> list[tuple[TextSpan, ...]]:
        """A turn as texts, and where the template takes parts, IMAGE_PART between them."""
        if not self._takes_parts(tokenizer):
            return [turn.pieces]
        contents: list[tuple[TextSpan, ...]] = []
        for piece in turn.pieces:
            if piece.text == IMAGE and not piece.literal:
                contents.append(IMAGE_PART)
                continue
            if not contents:
                contents.append((piece,))
            elif contents[-1] is not IMAGE_PART:
                contents[-1] = (*contents[-1], piece)
            elif text := piece.text.removeprefix("\n"):
                contents.append((replace(piece, text=text),))
        return contents or [turn.pieces]

    def _takes_parts(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        if self.parts is not None or "image" not in _chat_template(tokenizer):
            return bool(self.parts)
        return self._once(tokenizer, "parts", partial(self._writes_images, tokenizer))

    def _writes_images(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether the template takes parts and writes the placeholder that the model reads."""
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\ue000"}]}]
        try:
            written = self._apply(asked, tokenizer, asks=True)
        except TEMPLATE_ERRORS:
            return False
        own = token_id(tokenizer, IMAGE) is not None  # else the model's placeholder is one that its template knows
        return "\ue000" in written and (IMAGE in written or not own)

    def _text(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase, around: str = "") -> str:
        """The rendered conversation with marks in place of words, and `around` each of them."""
        numbers = count()
        messages: list[dict[str, object]] = []
        for turn in turns:
            parts = [
                {"type": "image"}
                if content is IMAGE_PART
                else {"type": "text", "text": f"{around}\ue000{next(numbers)}\ue001{around}"}
                for content in self._contents(turn, tokenizer)
            ]
            content = parts if self._takes_parts(tokenizer) else parts[0]["text"]
            messages.append({"role": ROLES[turn.role], "content": content})
        if self.system is not None:
            system = [{"type": "text", "text": self.system}] if self._takes_parts(tokenizer) else self.system
            messages.insert(0, {"role": "system", "content": system})
        try:
            return self._apply(messages, tokenizer, asks=turns[-1].role == "human")
        except TEMPLATE_ERRORS as error:
            advice = "name another template" if self.system is None else "leave `system` out"
            raise ConfigError(
                f"template 'chat': the tokenizer's chat template refuses these {len(messages)} turns: "
                f"{' '.join(str(error).split())}; {advice}"
            ) from error

    def _apply(self, messages: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, *, asks: bool) -> str:
        untyped: Any = tokenizer
        if not untyped.chat_template:
            raise ConfigError("template 'chat': this tokenizer has no chat template; name another template")
        # or prompts would be other ones tomorrow
        template = DATE.sub(lambda call: repr(TODAY.strftime(call[2])), untyped.get_chat_template())
        return untyped.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=asks, **self.variables
        )

    def _stripped(
        self, words: Sequence[TextSpan], turn: RenderedTurn, tokenizer: PreTrainedTokenizerBase
    ) -> list[TextSpan]:
        """A text as the template leaves it, which may strip white space from contents."""
        left, right = self._once(tokenizer, turn.role, partial(self._what_is_stripped, turn.role, tokenizer))
        pieces = _strip(list(words), left, str.lstrip)
        return _strip(pieces[::-1], right, str.rstrip)[::-1]

    def _what_is_stripped(self, role: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str | None, str | None]:
        """From the beginning and the end of contents, as `_missing` says it."""
        text = self._text([QUESTION, ANSWER], tokenizer, around=BLANKS)
        before, after = text.split(f"\ue000{int(role == 'gpt')}\ue001")
        return _missing(before[::-1]), _missing(after)

    def _once(self, tokenizer: PreTrainedTokenizerBase, what: Hashable, work: Callable[[], Result]) -> Result:
        """The result of work that depends on the tokenizer and `what` alone, done once."""
        untyped: Any = tokenizer
        key = _chat_template(tokenizer), untyped.bos_token, untyped.eos_token, len(tokenizer), what
        if key not in self._known:
            self._known[key] = work()
        return self._known[key]

    def _split_end(self, control: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
        """The end token of an answer with what stands before it, and the control text after it; or '' and all."""
        encoder = encoder_of(tokenizer)
        # that which begins a sequence ends no answer, unless it is the same token that ends one
        begins = None if encoder.bos == tokenizer.eos_token_id else encoder.bos
        stops = (stop for _, stop, token in encoder.marks(control) if token != begins)
        stop = next(stops, 0)
        return control[:stop], control[stop:]


def _chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    untyped: Any = tokenizer
    return str(untyped.chat_template)


def _missing(text: str) -> str | None:
    """What was stripped from `BLANKS` that stood there, as `str.strip` takes it: nothing, line breaks, white space."""
    if text.startswith(BLANKS):
        return ""
    return "\n" if text.startswith(BLANKS.rstrip("\n")) else None


def _strip(pieces: list[TextSpan], characters: str | None, strip: Any) -> list[TextSpan]:
    """Without these characters at one end, which is the list's beginning; an image is none of them."""
    for number, piece in enumerate(pieces):
        if piece.text == IMAGE and not piece.literal:
            return pieces[number:]
        if text := strip(piece.text, characters):
            return [replace(piece, text=text), *pieces[number + 1 :]]
    return []


def _without_tag(pieces: list[TextSpan], opening: str) -> list[TextSpan]:
    """An answer without the tag that its opening ends in, such as `<think>`."""
    tag = opened_thinking(opening)
    if tag and pieces and pieces[0].text.startswith(tag):
        return [replace(pieces[0], text=pieces[0].text.removeprefix(tag).lstrip("\n")), *pieces[1:]]
    return pieces


def _without_thoughts(pieces: list[TextSpan]) -> list[TextSpan]:
    """What an answer says behind its thoughts; a region in them is one of them."""
    for number in range(len(pieces) - 1, -1, -1):
        end = end_of_thinking(pieces[number].text)
        if end is not None:
            left = [replace(pieces[number], text=pieces[number].text[end:]), *pieces[number + 1 :]]
            return _strip(left, None, str.lstrip)
    return pieces


def _end_of_no_thoughts(opening: str) -> str:
    """What closes at once the thoughts that an opening begins."""
    tag = opened_thinking(opening)
    return f"\n{tag[0]}/{tag[1:]}\n\n" if tag else ""
