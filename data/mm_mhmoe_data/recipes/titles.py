"""Cleaning of titles and file names: author names, numbering, separators and collection titles go."""

from __future__ import annotations

import re
import unicodedata

from .svg_metadata import SvgMetadata
from .vocabulary import COLOURS

_COLLECTIONS = re.compile(
    r"""^(gramastar|part\ of\ the\ flat\ icon.*|etiquette\ icons|lemon\ svg\ theme|aiga_symbol_signs|card
    |svg\ road\ signs|road\ signs|various\ cliparts?|svg\ gradient\ collection.*|people|blueberry\ -\ iconset
    |clipart\ by\ nicu\ buculei.*|gold-theme|advertising|australian\ maps|map\ symbols|homes\ clipart|sallite
    |plastik-icon-theme|simple\ arrows|r1[56]\ .*|balloons-aj|pc\ connectors|chess\ pieces|moons|openclipart.*
    |menu\ clip\ art.*|untitled.*|no\ title|clip\ ?art|drawing|.*@.*|c\ rollandin.*|sport|stick\ man)$""",
    re.VERBOSE,
)
_CLIPART_BY = re.compile(r"^clipart by .*? - ")
_AUTHORS = frozenset(
    ["rollandin", "francesco", "architetto", "ganson", "buculei", "nicu", "benji", "zazou", "aj", "mimooh"]
)


_SCOOPS = ("no scoop", "one scoop", "two scoops", "three scoops", "four scoops", "five scoops")


def choose_title(metadata: SvgMetadata, stem: str) -> str:
    """The title if it speaks about the picture, else the file name; lower case, no digits at the end."""
    title = plain(metadata.title)
    collection = _COLLECTIONS.match(title) is not None
    title = _CLIPART_BY.sub("", title)
    creator = set(plain(metadata.creator).split()) | _AUTHORS
    tokens = [token for token in words(title) if token not in creator]
    if not tokens or tokens == ["c"]:
        # the title is the author's name, and then the file name begins with it, cut off somewhere
        kept = [token for token in words(stem) if not any(name.startswith(token) for name in creator)]
        return " ".join(kept)
    if collection:
        return " ".join(token for token in words(stem) if token not in _AUTHORS)
    return " ".join(token for token in words(_brackets(title)) if token not in _AUTHORS)


def plain(text: str) -> str:
    """Lower case ASCII."""
    text = unicodedata.normalize("NFKD", text)
    return text.encode("ascii", "ignore").decode().lower().strip()


def words(text: str) -> list[str]:
    """Words of a title or file name: separators dropped, numbering dropped, "bus2" -> "bus"."""
    text = re.sub(r"\.(svg|png|eps)\b|\bclipart[ _]by\b", " ", text)
    text = re.sub(r"[_/:;#|*~=<>()\[\]{}\"?]|--+|\s-+\s*|(?<=[a-z0-9])-(?=[a-z0-9])|-$|\.\.+", " ", text)
    found = []
    for token in text.split():
        token = token.strip(".,!'") if token not in {"viewmag+", "viewmag-"} else token
        token = re.sub(r"(?<=[a-z]{3})[0-9]+[a-z]?$", "", token)
        if not token or re.fullmatch(r"0[0-9]*|v[0-9.]+|[0-9]+[a-d]|0x\w+|r|md|\W+", token):
            continue
        found.append(token)
    while len(found) > 1 and found[-1].isdigit():
        found.pop()
    return found


def clean_stem(stem: str, creator: str) -> str:
    """A file name without numbering and without the author's name, which was often cut in the middle."""
    # CamelCase says where words begin
    stem = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", stem) if not stem.islower() else stem
    tokens = re.split(r"[_\s]+", plain(stem))
    names = [name for name in re.split(r"[^a-z0-9.]+", plain(creator)) if name]
    # only a tail that spells the author's names in their order is the author
    for start in range(1, len(tokens)):
        tail = [token for token in tokens[start:] if token and not re.fullmatch(r"\d+[a-z]?|r", token)]
        if tail and names and len(tail) <= len(names) and _spells(tail, names):
            tokens = tokens[:start]
            break
    return " ".join(tokens)


def series_key(stem: str) -> str:
    """What stays of a file name when numbers, colours and "bw" go: equal for twins of one series."""
    tokens = [re.sub(r"\d+[a-z]?$", "", token) for token in re.split(r"[\s_-]+", stem)]
    kept = [token for token in tokens if token and token not in COLOURS and token not in {"bw", "md", "r"}]
    return " ".join(kept) or stem


def _brackets(title: str) -> str:
    """ "crawfish (b and w)" -> "crawfish black and white"; "led circle (red)" -> "red led circle"."""
    title = re.sub(r"\(([^\s)]+\s+){3,}[^)]*\)?", " ", title) if "w)" not in title else title
    title = re.sub(r"\((\d) scoops?\)", lambda m: f" with {_SCOOPS[int(m.group(1))]}", title)
    title = re.sub(r"\(\s*b\s*(and|&|amp;?|n)+\s*w\s*\)", " black and white", title)
    title = re.sub(r"\b(b\s*[&n_]\s*w)\b", "black and white", title)
    colour = re.search(r"\(([a-z]+)\)", title)
    if colour and colour.group(1) in COLOURS:
        title = f"{colour.group(1)} {title.replace(colour.group(0), ' ')}"
    return title.replace("&", " and ").replace("+", " and ") if "viewmag" not in title else title


def _spells(tail: list[str], names: list[str]) -> bool:
    """Whether every token begins (or is cut from) the author's names in order, from some name on."""
    for offset in range(len(names)):
        rest = names[offset : offset + len(tail)]
        if len(rest) == len(tail) and all(n.startswith(t) or t.startswith(n) for t, n in zip(tail, rest, strict=True)):
            return len(tail[0]) > 2 or len(tail) > 1
    return False
