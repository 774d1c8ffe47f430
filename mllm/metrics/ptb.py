r"""The Penn Treebank tokens of captions, as the public scores of captions count them, without Java.

    "A man's dog (can't run), 5 ft. away."  ->  "a man 's dog -lrb- ca n't run -rrb- 5 ft. away"

Public captioning code runs the tokenizer of Stanford CoreNLP 3.4.1 over captions, in lower case, and drops 17 tokens of
punctuation. This module gives the same tokens. Its rules were found by trying texts on that program, which remains the
reference: at each place the longest match of `_RULES` is the next token, of equally long ones the first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Abbreviations keep their full stop; of the second kind only with a capital, of the third before a number.
_ABBREVIATIONS = (
    "adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bhd bldg blvd brig bros calif capt cf cie "
    "cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga "
    "gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md messrs mfg mich "
    "minn mlle mme mo mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph plc ppte pptes ppty pptys "
    "pres prof profs pte ptes pty ptys pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt "
    "supts sys tel tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo"
)
_CAPITALISED = "ark az del ill la mass miss ore pa tex wash"
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"

_SENTENCES_BEGIN = (
    "a about according additionally after an as at but earlier he her here however if in it last many more now once "
    "one other our she since so some such that the their then there these they this we what when while yet you"
)

_MARKS = "\u00ad\u02c2-\u02df\u02e5-\u02ff\u0300-\u036f\u0483-\u0487\u0900-\u0903\u093a-\u094f\u0e31-\u0e4e"
_NUMERALS = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209c\u2150-\u2189\u2460-\u24ff"
_L = rf"(?:[^\W\d_{_NUMERALS}]|[{_MARKS}])"
"""A letter, or what joins letters."""
_W = rf"(?:[^\W_{_NUMERALS}]|[{_MARKS}])"
"""A letter or digit."""
_A = "['\u2019]"
_END = r"(?![A-Za-z])"
_SUFFIX = f"(?:'(?:s|d|m|ll|re|ve){_END}|\u2019(?:s|d|m|ll|re|ve))"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])*"
_HYPHENATED = r"[A-Za-z0-9][A-Za-z0-9.,\u00ad]{0,80}(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9\u00ad]+))+"
_PART = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_NUMBER = r"(?:\d*(?:[.,:\u00ad\u066b\u066c]\d+)+|\d+)"

_SYMBOLS = (
    "\u00a1\u00a5-\u00a9\u00ac\u00ae-\u00b4\u00b6-\u00b9\u00bf\u00d7\u00f7\u037e\u0387\u061b\u061f\u066a\u06d4\u0e3f"
    "\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e\u2080-\u208e\u2100\u2101"
    "\u2103-\u2106\u2108\u2109\u2114\u2116-\u2118\u211e-\u2123\u2125\u2127\u2129\u212e\u2140-\u2144\u214a-\u214d\u214f"
    "\u2155-\u215e\u2190-\u2bff\u3001\u3002\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0"
    "\uffe1\uffe5\uffe6"
)
_BRACKETS = {"[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_TRANSLATED = str.maketrans(
    {
        " ": "\u00a0",
        "\u00ad": "",
        "(": "-lrb-",
        ")": "-rrb-",
        "\u00bc": "1/4",
        "\u00bd": "1/2",
        "\u00be": "3/4",
        "\u2153": "1/3",
        "\u2154": "2/3",
        "\u00a2": "cents",
        "\u00a3": "#",
        "\u00a4": "$",
        "\u20a0": "$",
        "\u20ac": "$",
    }
)


def _one_of(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


def _capitals(words: str) -> str:
    return "|".join(f"{word.capitalize()}|{word.upper()}" for word in words.split())


_RULES = tuple(
    re.compile(rule, re.IGNORECASE if ignore_case else 0)
    for ignore_case, rule in (
        # words, and what splits off them; group 1, where there is one, is the token, and the rest only has to follow
        (True, rf"({_W}*?(?!n){_L})n['\u2019`\u2018]t"),
        (True, rf"n['\u2019`\u2018]t{_END}"),
        (True, _SUFFIX),
        (True, rf"{_W}+(?:[-\u2010\u2011](?:[dol]{_A}(?!(?:s|d|m|ll|re|ve){_END}))?{_W}+)*"),
        (True, r"[A-Za-z][A-Za-z0-9]*(?:[.!?][A-Za-z][A-Za-z0-9]*)+"),
        (True, _HYPHENATED),
        (True, rf"{_PART}(?:\\?/{_PART}){{1,2}}"),
        (True, "[A-Z0-9]+(?:_[A-Z0-9]+)+"),
        (False, "[A-Z]+(?:(?:(?i:&amp;)|[&+])[A-Z]+)+"),
        (True, r"C\+\+|[CF]#"),
        # apostrophes inside and before words
        (False, rf"[A-HJ-XZ]{_A}(?!(?:ll|re|ve){_END})[A-Za-z]{{2,}}|n{_A}[a-z]{{2,}}"),
        (True, rf"[dol]{_A}(?!(?:ll|re|ve){_END}){_W}{{2,}}"),
        (True, rf"{_L}+[aeiouy]{_A}[aeiou]{_L}*"),
        (
            True,
            f"C{_A}mon|S{_A}mores?|C{_A}est|li{_A}l|ma{_A}am|ev{_A}ry|nat{_A}l|ne{_A}er|hallowe{_A}en|nor{_A}easter",
        ),
        (True, rf"[ldj]{_A}(?!(?:s|d|m|ll|re|ve){_END})"),
        (True, f"(?:y|ol){_A}(?!s|d|m|ll|re|ve)(?={_L})|ol{_A}(?!{_L})|dunkin{_A}|somethin{_A}"),
        (True, f"{_A}(?:em|till?|cause)|{_A}n(?:{_A}|{_END})|\u2019n"),
        (True, "'t(?=is|was)"),
        (True, rf"{_A}[0-9][0-9](?:s(?![A-Za-z0-9])|(?=\s|$))"),
        # abbreviations, and the full stop of any word before a comma
        (True, rf"{_one_of(_ABBREVIATIONS)}\."),
        (False, rf"(?:{_capitals(_CAPITALISED)})\."),
        (True, rf"({_one_of(_BEFORE_NUMBERS)}\.)\s*[0-9]"),
        (True, rf"{_ACRONYM}\."),
        (False, rf"([A-Za-z])\.\s+(?:(?:{_capitals(_SENTENCES_BEGIN)})\s|(?:{_capitals('mr ms')})\.)"),
        (True, r"(?:Ph|Ed)\.D\.?"),
        (True, rf"({_W}+(?:-{_W}+)*\.)[,;:]"),
        # numbers
        (True, rf"[-+]?{_NUMBER}(?:\.x{_END})?"),
        (True, r"[0-9]{1,4}(?:[- \u00a0][0-9]{1,4})?(?:\\?/|\u2044)[0-9]{1,4}"),
        (True, r"[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}"),
        (True, r"\([0-9]{3}\)[- ]?[0-9]{3}[- ][0-9]{4}|(?:[0-9]+-)?[0-9]{3}[-.][0-9]{3}[-.][0-9]{4}"),
        (False, r"[A-Z]+\$"),
        # of the web
        (True, r"(?:https?://|www\.)[^\s\"<>|()]*[^\s\"<>|().,;:!?']"),
        (False, r"(?:[A-Za-z0-9-]+\.)+(?:com|net|org|edu)(?:/[^\s\"<>|()]+[^\s\"<>|().,;:!?'])?"),
        (True, r"[A-Z0-9][A-Z0-9_.+-]{0,80}@(?:[A-Z0-9.-]*[A-Z0-9])"),
        (True, f"@[A-Z_][A-Z0-9_]*|#{_L}+"),
        (True, "</?[A-Z!?][^<>\n]*>|&(?:amp|lt|gt|quot|apos|nbsp|mdash|ndash|#[0-9]+);"),
        (False, r">?[:;=][-']?[()DdPp|\[\]](?![A-Za-z0-9])|:[O3](?![A-Za-z0-9])|\^_\^|-_-|>_<"),
        # signs
        (True, r"[!?]+|\.+|-+|[*]+|#+|@+|_+|<<|>>|[\\/~`'\"|<>=+%&^$,;:(){}\[\]]"),
        (True, f"[{_SYMBOLS}\u00a2-\u00a4\u00bc-\u00be\u2153\u2154\u20a0\u20ac\u2013-\u2015\u2026]"),
        (True, "[\u2018\u2019\u201b-\u201d\u2039\u203a\u00ab\u00bb]+"),
    )
)
_QUOTES = {
    **dict.fromkeys("\u2018\u201b\u2039", "`"),
    **dict.fromkeys("\u2019\u203a", "'"),
    **dict.fromkeys("\u201c\u00ab", "``"),
    **dict.fromkeys('\u201d\u00bb"', "''"),
}
_UNQUOTED = str.maketrans(_QUOTES)
_QUOTED = re.compile(f"[{''.join(_QUOTES)}]+")
_UNCOUNTED = re.compile("''?|``?|[,:;?!]|\\.+|\u2026+|-{1,4}|[\u2013-\u2015]|&(?:quot|apos|(?i:nbsp|mdash|ndash));")
"""Tokens of punctuation that do not count."""
_SPACE = re.compile(r"[^\S\n]+")
_PLAIN = re.compile(r"[A-Z]?[a-z]+(?=[ \n])")
"""A word that no rule but those of `_SPLIT` does anything to."""
_WITH_APOSTROPHE = re.compile(rf"{_SUFFIX}|n[\u2019\u2018]t", re.IGNORECASE)
_BEFORE_SUFFIX = re.compile(_SUFFIX, re.IGNORECASE)
_SPLIT = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
}


def tokenize(captions: Sequence[str]) -> list[str]:
    """The tokens of each caption in lower case, without punctuation, with a space between them.

    The program reads all captions as one text, a caption a line: whether `a plan B.` ends a sentence, and loses its
    full stop, is seen by the next line.
    """
    text = "\n".join(map(without_line_breaks, captions))
    lines: list[list[str]] = [[]]
    place = 0
    while place < len(text):
        if text[place] == "\n":
            lines.append([])
            place += 1
        else:
            token, place = _next(text, place)
            is_split = token in _SPLIT and not _BEFORE_SUFFIX.match(text, place)
            lines[-1] += _SPLIT[token] if is_split else (token,)
    return [" ".join(filter(None, line)) for line in lines]


def without_line_breaks(caption: str) -> str:
    """A caption without the line breaks that would make it two."""
    return re.sub("[\n\r\x0b\x0c\x85\u2028\u2029]", " ", caption)


def _next(text: str, place: int) -> tuple[str, int]:
    """The token at a place, empty where it does not count, and where it ends."""
    if space := _SPACE.match(text, place):
        return "", space.end()
    if plain := _PLAIN.match(text, place):
        return plain[0].lower(), plain.end()
    matches = [match for rule in _RULES if (match := rule.match(text, place))]
    if not matches:  # a character that the program cannot read
        return "", place + 1
    longest = max(matches, key=lambda match: match.end())
    group = longest.re.groups
    return _spelled(longest[group]), longest.end(group)


def _spelled(token: str) -> str:
    if _QUOTED.fullmatch(token):
        token = token.translate(_UNQUOTED)
    if _UNCOUNTED.fullmatch(token):
        return ""
    if _WITH_APOSTROPHE.fullmatch(token):
        token = token.replace("\u2019", "'").replace("\u2018", "`")
    if token in _BRACKETS:
        return _BRACKETS[token]
    return re.sub("&(?:amp|lt|gt);", _character, token, flags=re.IGNORECASE).lower().translate(_TRANSLATED)


def _character(entity: re.Match[str]) -> str:
    return {"&amp;": "&", "&lt;": "<", "&gt;": ">"}[entity[0].lower()]
