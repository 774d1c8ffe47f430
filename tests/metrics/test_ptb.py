"""Parity with Stanford's tokenizer: what it made of captions, stored, and where Java is, again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mllm.metrics.ptb import tokenize

CASES = json.loads((Path(__file__).parent / "ptb_java.json").read_text(encoding="utf-8"))["captions"]


def test_tokenize_gives_the_stored_tokens_of_java() -> None:
    captions = [caption for caption, _ in CASES]
    assert list(zip(captions, tokenize(captions), strict=True)) == [(caption, tokens) for caption, tokens in CASES]


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        # the first two are of pycocoevalcap's stored run
        (
            "A yellow bus, on the street (near a man's house).",
            "a yellow bus on the street -lrb- near a man 's house -rrb-",
        ),
        ("It's 5 o'clock -- \"go\"!", "it 's 5 o'clock go"),
        ("I can't, cannot and won't", "i ca n't can not and wo n't"),
        ("a two-story house", "a two-story house"),
        ("$1,000.50 or 20%", "$ 1,000.50 or 20 %"),
        ("the U.S. flag at 5 p.m.", "the u.s. flag at 5 p.m."),
        ("No. 5, no. Five", "no. 5 no five"),
        ("\u201cit\u2019s\u201d caf\u00e9\u2026", "it 's caf\u00e9"),
        ("what?! wow!!! ok!", "what ?! wow !!! ok"),
        ("\U0001f600 smiles", "smiles"),
        ("", ""),
        (" \t\n ", ""),
    ],
)
def test_tokenize_a_caption(caption: str, tokens: str) -> None:
    assert tokenize([caption]) == [tokens]


# what the program in Java makes of each of these alone
BY_JAVA = [
    ("&QUOT; &APOS; &quot; &apos; &MDASH; &mdash; AT&AMP;T AT&amp;T at&amp;t", "&quot; &apos; at&t at&t at & t"),
    ("ol'sam ol'van Y'All y's y'ma", "ol sam ol' van y' all y 's y ma"),
    ("y'\u00e9", "y' \u00e9"),
    ("x.com and X.COM and x.com. and X.com", "x.com and x.com and x.com and x.com"),
    ("dunkin'x somethin'x", "dunkin' x somethin' x"),
    ("I DON'T and you CAN'T, the DOG'S WE'LL", "i do n't and you ca n't the dog 's we 'll"),
    ("don\u2018t say DON\u2019T", "do n`t say do n't"),
    ("a JACK-O'LANTERN and a jack-o'lantern", "a jack-o'lantern and a jack-o'lantern"),
    ("a snake_case and SNAKE_CASE name", "a snake_case and snake_case name"),
    ("some r&b and R&B at the A&W", "some r & b and r&b at the a&w"),
    ("c++ and C++ and c# and F#", "c++ and c++ and c# and f#"),
    ("k'nex and K'Nex and B'gosh", "k nex and k'nex and b'gosh"),
    ("five O'CLOCK at D'ARTAGNAN 's", "five o'clock at d'artagnan 's"),
    ("HAWAI'I and Hawai'i", "hawai'i and hawai'i"),
    ("C'MON, c'mon MA'AM ma'am NE'ER a S'MORE", "c'mon c'mon ma'am ma'am ne'er a s'more"),
    ("L'amour J'adore l' eau", "l'amour j'adore l' eau"),
    (
        "Y'All and y'all, OL' ol' DUNKIN' dunkin' SOMETHIN' somethin' new",
        "y' all and y' all ol' ol' dunkin' dunkin' somethin' somethin' new",
    ),
    ("get 'EM 'TIL dawn 'CAUSE rock 'N' roll", "get 'em 'til dawn 'cause rock 'n' roll"),
    ("'Twas and 'TWAS, 'TIS and 'tis", "'t was and 't was 't is and 't is"),
    ("DR. smith and dr. Smith", "dr. smith and dr. smith"),
    ("he was ill. of Mass. and MASS. and mass. of", "he was ill of mass. and mass. and mass of"),
    ("No. 5 NO. 5 no. 5 FIG. 3 fig. 3", "no. 5 no. 5 no. 5 fig. 3 fig. 3"),
    ("plan b. the end", "plan b. the end"),
    ("plan B. Mr. X and plan B. mr. x", "plan b mr. x and plan b. mr. x"),
    ("plan C. The cat", "plan c the cat"),
    ("a ph.d student and PH.D and ed.d.", "a ph.d student and ph.d and ed.d."),
    ("a 4.X and a 4.x zoom", "a 4.x and a 4.x zoom"),
    ("US$5 and us$5", "us$ 5 and us $ 5"),
    ("HTTP://X.COM/a and http://x.com/a and WWW.X.COM", "http://x.com/a and http://x.com/a and www.x.com"),
    ("flickr.com/photos/1 and FLICKR.COM/photos/1", "flickr.com/photos/1 and flickr.com / photos/1"),
    ("joe_b@x.com and JOE_B@X.COM", "joe_b@x.com and joe_b@x.com"),
    ("@user_name and @USER and #tag", "@user_name and @user and #tag"),
    ("<b>bold</b> and <B>BOLD</B>", "<b> bold </b> and <b> bold </b>"),
    ("a &AMP; b &amp; c &LT; d &lt; e &gt; f", "a & b & c < d < e > f"),
    (":D and :d and :P :p =P", ":d and :d and :p :p =p"),
    (":O and :o", ":o and o"),
    ("I gotta go, I wanna see, gimme that, lemme in", "i got ta go i wan na see gim me that lem me in"),
    ("\u2153 and \u2154 of \u20ac5 or \u20a05", "1/3 and 2/3 of $ 5 or $ 5"),
    ("X marks the spot of an X", "x marks the spot of an x"),
    ("in Ark. and ARK. and ark.", "in ark. and ark. and ark"),
    ("in Del. or DEL. or Tex. or TEX. or Wash. and WASH.", "in del. or del. or tex. or tex. or wash. and wash."),
    ("on 12-25-2010 or 12/25-2010 or 1-5/10", "on 12-25-2010 or 12/25-2010 or 1-5/10"),
    ("call (555) 123-4567 or 555-123-4567", "call -lrb-555-rrb-\u00a0123-4567 or 555-123-4567"),
    ("U.S. and u.s. and e.g. this", "u.s. and u.s. and e.g. this"),
    ("La. and LA. and Ore. and ORE.", "la. and la. and ore. and ore."),
    ("OL'Man ol'man", "ol man ol man"),
    ("NOR'EASTER on HALLOWE'EN NAT'L EV'RY LI'L C'EST", "nor'easter on hallowe'en nat'l ev'ry li'l c'est"),
    ("I'M HERE, THEY'VE SEEN, WE'RE, I'D", "i 'm here they 've seen we 're i 'd"),
    ("the '80S and '80s", "the '80s and '80s"),
    ("WON'T and n't and N'T", "wo n't and n't and n't"),
    ("AIN\u2019T ain\u2019t", "ai n't ai n't"),
    ("Ph.D. and PH.D. of", "ph.d. and ph.d. of"),
    ("an a.m. or A.M. show", "an a.m. or a.m. show"),
    ("L'EAU D'OR", "l'eau d'or"),
    ("rock \u2019n\u2019 roll \u2019N\u2019", "rock \u2019n\u2019 roll \u2019n\u2019"),
    ("x@y.z and X@Y.Z", "x@y.z and x@y.z"),
    (">:( and :-) =] :[", ">:-lrb- and :--rrb- =] :["),
    ("^_^ -_- >_<", "^_^ -_- >_<"),
]


@pytest.mark.parametrize(("caption", "tokens"), BY_JAVA)
def test_tokenize_takes_capitals_and_signs_as_java_does(caption: str, tokens: str) -> None:
    assert tokenize([caption]) == [tokens]


def test_tokenize_sees_the_end_of_a_sentence_by_the_next_caption() -> None:
    assert tokenize(["plan B.", "The end."]) == ["plan b", "the end"]
    assert tokenize(["plan B.", "the end."]) == ["plan b.", "the end"]


def test_tokenize_keeps_a_caption_with_line_breaks_one() -> None:
    assert tokenize(["a\nb\u2028c\r\nd", "e"]) == ["a b c d", "e"]
