"""Pages of the Debian Administrator's Handbook (XHTML by Publican) as paragraphs that align across languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

PACKAGE = "debian-handbook"
ENGLISH = "en-US"
INDEX = "index.html"
_HEADINGS = {f"h{level}" for level in range(1, 7)}
# blocks of their own, listings, addresses of links, pictures
_LEFT_OUT = {"div", "pre", "table", "ul", "ol", "dl", "img"}
_NAVIGATION = {"docnav", "docnav top", "toc", "url"}
_NUMBER = re.compile(r"^([A-Z]\.)?\d+(\.\d+)*\.\s+")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One paragraph or title without markup; `text` is empty where there was only a listing, a list or a link.

    `bare` is the text without references to other sections, which Publican translates even where nobody
    translated the text.
    """

    kind: Literal["para", "title"]
    text: str
    bare: str


def find_books(root: Path) -> Path:
    """The folder with one folder a language under `root`. Raises `ValueError` when it is not there."""
    for folder in (root / "usr/share/doc/debian-handbook/html", root):
        if (folder / ENGLISH / INDEX).is_file():
            return folder
    raise ValueError(
        f"root={str(root)!r} holds no Debian handbook: looked for usr/share/doc/{PACKAGE}/html/{ENGLISH}/{INDEX}. "
        f"Run 'apt-get download {PACKAGE}', unpack it with 'dpkg-deb -x {PACKAGE}_*.deb ROOT', and give ROOT."
    )


def read_chapters(book: Path) -> dict[str, list[str]]:
    """Pages by chapter, both by file name without ".html", in alphabetical order.

    A page's chapter is the page just below the index on the way up.
    """
    above = {page.name: _above(page) for page in sorted(book.glob("*.html"))}
    chapters: dict[str, list[str]] = {}
    for name in above:
        chapter, steps = name, 0
        while above[chapter] not in (INDEX, None):
            chapter, steps = str(above[chapter]), steps + 1
            if chapter not in above or steps > len(above):
                raise ValueError(f"{book / name}: the way up leads to {chapter}, which is no page of the book.")
        chapters.setdefault(chapter.removesuffix(".html"), []).append(name.removesuffix(".html"))
    return chapters


def read_blocks(page: Path) -> list[Block]:
    """Paragraphs and titles of a page in their order, empty ones too: translations have the same structure, so the
    n-th block of a page is the same paragraph in every language."""
    return [block for element in _parse(page) if _name(element) == "body" for block in _blocks(element)]


def _parse(page: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(page).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{page} is not well-formed ({error}). Unpack the package again.") from error


def _above(page: Path) -> str | None:
    ups = (e.get("href") for e in _parse(page).iter() if _name(e) == "link" and e.get("rel") == "up")
    return next(ups, None)


def _name(element: ElementTree.Element) -> str:
    """The tag without its namespace: Publican empties the namespace of some elements."""
    return element.tag.rpartition("}")[2]


def _blocks(element: ElementTree.Element) -> Iterator[Block]:
    for child in element:
        kind = _kind(child)
        if kind:
            yield Block(kind=kind, text=_text(child, kind), bare=_text(child, kind, references=False))
        if child.get("class") not in _NAVIGATION and child.get("id") not in ("banner", "title"):
            yield from _blocks(child)


def _kind(element: ElementTree.Element) -> Literal["para", "title"] | None:
    if _name(element) == "div" and element.get("class") == "para":
        return "para"
    if element.get("class") == "title" and (_name(element) in _HEADINGS or _name(element) == "p"):
        return "title"
    return None


def _text(element: ElementTree.Element, kind: str, *, references: bool = True) -> str:
    text = " ".join("".join(_pieces(element, references)).split())
    return _NUMBER.sub("", text) if kind == "title" else text


def _pieces(element: ElementTree.Element, references: bool) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if _name(child) in _LEFT_OUT or (not references and child.get("class") == "xref"):
            yield " "
        else:
            yield from _pieces(child, references)
        yield child.tail or ""
