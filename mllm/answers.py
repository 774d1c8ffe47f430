r"""Reading the answer out of what a model wrote: the one step that every metric takes, and the reader of regions.

    <think>Two dogs ...</think> **The answer is "two".**  ->  two

1. Thinking is left out: all up to the last closing tag, and from an opening tag that is never closed.
2. Inside `<answer>...</answer>` or `\boxed{...}` only that is read: the last that is not blank. Words also inside
   `<|begin_of_box|>...<|end_of_box|>`, in which GLM puts answers, and the regions that it marks.
3. Emphasis marks (`**`, `__`, `*`, `_`, backticks) are removed.
4. What follows `the answer is`, `answer:` or `ans:` is an answer, to the end of its sentence; without any, the whole
   text. So does `would be`, `should be`, `must be`, and `the correct option is` (or `choice`, or `right`). The last
   counts.
5. Quotes, code fences, dollar signs, `\text{...}` and a final full stop around an answer are removed.

Regions are read from what the first two steps leave. `steps_of` says which steps found something in a text.
"""

from __future__ import annotations

import re
from typing import Literal

Depth = Literal["stated", "whole_answer", "short_answer"]
"""How far a text is read: by the function of this name."""

_FLAGS = re.IGNORECASE | re.DOTALL
_TAGS = "think|thinking|thought|reasoning"
_THINKING_ENDS = re.compile(rf"</(?:{_TAGS})>|\[/THINK\]|◁/think▷", _FLAGS)
_THINKING_STARTS = re.compile(rf"<(?:{_TAGS})>|\[THINK\]|◁think▷", _FLAGS)
_TAGGED = re.compile(r"<(answer|conclusion)>(.*?)(?:</\1>|\Z)", _FLAGS)
_TAG_ENDS = re.compile(r"</(?:answer|conclusion)>", _FLAGS)
_BOXED = re.compile(r"\\boxed\s*\{")
_IN_BOX = re.compile(r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|\Z)", _FLAGS)
"""Source: GLM-V Team 2025 (arXiv 2507.01006), whose thinking models mark final answers so."""
_EMPHASIS = (
    re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", re.DOTALL),
    re.compile(r"(?<!\w)__(?=\S)(.+?)(?<=\S)__(?!\w)", re.DOTALL),
    re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])"),
    re.compile(r"(?<!\w)_(?=[^\s_])([^_\n]+?)(?<=[^\s_])_(?!\w)"),
    re.compile(r"(?<!`)`([^`\n]+)`(?!`)"),
)
_MARK = re.compile(
    r"(?m:^#+\s*(?:final\s+)?answer\s*\n\s*)"
    r"|(?:,?\s*\b(?:so )?the )?\b(?:ans(?:wer)?|(?:correct|right) (?:option|choice))"
    r"(?:\s+(?:is|(?:would|should|must) be)\b\s*:?|\s*:)\s*",
    re.IGNORECASE,
)
"""As in `So the answer is ...`, `The correct option would be ...`, `Answer: ...`, and under the heading `# Answer`."""

_END = re.compile(
    r"(?<![.\s][A-Za-z])(?<!\bmr)(?<!\bmrs)(?<!\bms)(?<!\bdr)(?<!\bst)(?<!\bvs)[.!?](?!\s[A-Z]\.)(?=\s|$)",
    re.IGNORECASE,
)
"""The end of a sentence, not of a letter or a title: `U.S. flag`, `J. K. Rowling`, `Dr. Pepper`."""

_WRAPPERS = (
    re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL),
    re.compile(r"\\\[(.*)\\\]|\\\((.*)\\\)|\$\$?([^$]*)\$\$?", re.DOTALL),
    re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"),
    re.compile(r"\"([^\"]*)\"|'([^']*)'|\u201c([^\u201c\u201d]*)\u201d|\u2018([^\u2018\u2019]*)\u2019"),
    re.compile(r"\u00ab([^\u00ab\u00bb]*)\u00bb|\u201e([^\u201e\u201c]*)\u201c"),
)


def opened_thinking(text: str) -> str:
    """The tag of thoughts that a text ends in; "" where it ends in none."""
    starts = list(_THINKING_STARTS.finditer(text))
    return starts[-1][0] if starts and not text[starts[-1].end() :].strip() else ""


def end_of_thinking(text: str) -> int | None:
    """Where the last thoughts in a text end; None where it holds no whole ones."""
    ends = list(_THINKING_ENDS.finditer(text))
    return ends[-1].end() if ends else None


def stated(text: str) -> str:
    """What a model says after its thinking, or inside its answer tag or box; nothing where it was cut off thinking."""
    said = _in_tag(_without_thinking(text))
    boxes = list(_BOXED.finditer(said))
    return _braced(said, boxes[-1].end()) if boxes else said


def whole_answer(text: str) -> str:
    """All that a text says after thinking, or inside its answer tag or box, without what is wrapped around it."""
    return _unwrapped(_without_emphasis(_in_box(stated(text))))


def stated_answers(text: str) -> list[str]:
    """The answers that a text gives, the last first: after each `the answer is` or `answer:`, else the whole text."""
    said = _without_emphasis(_in_box(stated(text)))
    marks = list(_MARK.finditer(said))
    if not marks:
        return [_unwrapped(said)]
    ends = [*(mark.start() for mark in marks[1:]), len(said)]
    found = [_unwrapped(_sentence(said[mark.end() : end])) for mark, end in zip(marks, ends, strict=True)]
    return [answer for answer in found[::-1] if answer] or [""]


def short_answer(text: str) -> str:
    """The last answer of a text: `blue` of `The answer is red. No, the answer is blue.`; "" where there is none."""
    return stated_answers(text)[0]


def steps_of(text: str, depth: Depth) -> tuple[str, ...]:
    """Which steps found something to do in a text, in their order.

    They are `thinking`, `answer_tag`, `boxed`, `emphasis`, `the_answer_is` and `wrapping`.
    """
    found: list[str] = []
    said = _without_thinking(text)
    if said != text.strip():
        found.append("thinking")
    if _TAGGED.search(said) or _TAG_ENDS.search(said):
        found.append("answer_tag")
    boxed = _BOXED.search(_in_tag(said)) is not None
    said = stated(text)
    if depth != "stated":
        boxed |= _IN_BOX.search(said) is not None
        said = _in_box(said)
    if boxed:
        found.append("boxed")
    if depth != "stated":
        plain = _without_emphasis(said)
        if plain != said:
            found.append("emphasis")
        marked = depth == "short_answer" and _MARK.search(plain) is not None
        if marked:
            found.append("the_answer_is")
        elif _unwrapped(plain) != plain.strip():
            found.append("wrapping")
    return tuple(found)


def _without_thinking(text: str) -> str:
    said = text[end_of_thinking(text) or 0 :]
    start = _THINKING_STARTS.search(said)
    return (said if start is None else said[: start.start()]).strip()


def _in_tag(text: str) -> str:
    tagged = [match[2] for match in _TAGGED.finditer(text)]
    if not tagged:
        return _TAG_ENDS.split(text)[0]  # the tag may have been opened in the prompt
    return next((said for said in reversed(tagged) if said.strip()), "")


def _in_box(text: str) -> str:
    found = [match[1] for match in _IN_BOX.finditer(text)]
    return next((said for said in reversed(found) if said.strip()), text)


def _without_emphasis(text: str) -> str:
    for emphasis in _EMPHASIS:
        text = emphasis.sub(r"\1", text)
    return text


def _braced(text: str, start: int) -> str:
    """What stands between the brace before `start` and its partner; all that follows where there is none."""
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start:place]
    return text[start:]


def _sentence(text: str) -> str:
    line = text.split("\n")[0]
    end = _END.search(line)
    return line if end is None else line[: end.start()]


def _unwrapped(text: str) -> str:
    while True:
        text = text.strip().removesuffix(".").rstrip()
        inner = next((match for wrapper in _WRAPPERS if (match := wrapper.fullmatch(text))), None)
        if inner is None:
            return text
        text = next(group for group in inner.groups() if group is not None)
