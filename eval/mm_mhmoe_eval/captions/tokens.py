"""Words of captions without Java: close to the Penn Treebank tokenizer of the official scorer, not equal to it."""

from __future__ import annotations

import re

_ABBREVIATIONS = "mr|mrs|ms|dr|st|vs|etc|no|jr|sr|co|inc|ca|ave|mt|ft|lt|gen|sgt|capt|rev|prof"
_TOKEN = re.compile(
    rf"""
    https?://\S+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+   # addresses
    | (?:[^\W\d_]\.){{2,}}                        # u.s.
    | (?:{_ABBREVIATIONS})\.(?!\w)                # st.
    | [.+]?\d+(?:[.,:/]\d+)*(?:[\w-]*\w)?         # 3.50  .5  1/2  2nd  3-d
    | '\d0s                                       # '90s
    | [^\W\d]\w*(?:['/.-]\w+)*                    # well-known  don't  and/or  x.org
    | [!?*]{{2,}}                                 # ?!
    | \S
    """,
    re.VERBOSE,
)
_CONTRACTION = re.compile(r"(.+?)(n't|'s|'m|'d|'ll|'re|'ve)")
_IN_TWO = {"cannot": ["can", "not"], "gonna": ["gon", "na"], "gotta": ["got", "ta"], "wanna": ["wan", "na"]}
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_LEFT_OUT = frozenset("'\"`.?!,:-;\u2018\u2019\u201c\u201d\u2013\u2014\u2026")


def split_words(caption: str) -> list[str]:
    """Lower-case words of a caption; punctuation is left out, contractions are cut in two."""
    words = []
    for token in _TOKEN.findall(caption.lower().replace("\u2019", "'").replace("\u20ac", "$")):
        if token in _LEFT_OUT:
            continue
        cut = _CONTRACTION.fullmatch(token)
        words += _IN_TWO.get(token) or (list(cut.groups()) if cut else [_BRACKETS.get(token, token)])
    return words
