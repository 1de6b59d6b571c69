"""The title, keywords and licence that an Open Clip Art SVG says about itself.

Read with expat in one pass and never as a DOM: entity declarations are refused, nothing is fetched, and the
number of bytes is capped, so that a hostile SVG can do no more than be skipped.
"""

from __future__ import annotations

import contextlib
import html
import xml.parsers.expat
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 4_000_000
_MAX_TEXT = 2_000


class MetadataRejected(Exception):
    """The SVG cannot be read safely."""


@dataclass(frozen=True, kw_only=True)
class SvgMetadata:
    """What `cc:Work` says; empty strings where it says nothing. `licence` is the address it names."""

    title: str = ""
    keywords: tuple[str, ...] = ()
    creator: str = ""
    licence: str = ""


class _Stop(Exception):
    pass


class _Reader:
    """Collects the wanted texts; element paths are compared by local name, prefixes differ between files."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.text: list[str] = []
        self.title = self.creator = self.licence = ""
        self.keywords: list[str] = []
        self.work = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        self.path.append(local)
        self.text.clear()
        if local == "Work" and not self.work:
            self.work = len(self.path)
        elif self.work and local == "license":
            self.licence = attributes.get("rdf:resource", self.licence)

    def data(self, text: str) -> None:
        if self.work and sum(map(len, self.text)) < _MAX_TEXT:
            self.text.append(text)

    def end(self, name: str) -> None:
        local = self.path.pop()
        inside = self.path[self.work :] if self.work else []
        text = _unescape("".join(self.text))
        if self.work and local == "title" and not inside and not self.title:
            self.title = text
        elif self.work and local == "title" and inside[:1] == ["creator"] and not self.creator:
            self.creator = text
        elif self.work and local == "li" and inside[:1] == ["subject"] and text:
            self.keywords.append(text.lower())
        elif local == "Work" and len(self.path) + 1 == self.work:
            raise _Stop
        self.text.clear()


def read_svg_metadata(path: Path, *, max_bytes: int = MAX_BYTES) -> SvgMetadata:
    """The metadata of one SVG. Raises `MetadataRejected` for files over `max_bytes` or with broken XML."""
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise MetadataRejected(f"{path.name} is larger than {max_bytes} bytes")
    reader = _Reader()
    parser = xml.parsers.expat.ParserCreate()
    parser.SetParamEntityParsing(xml.parsers.expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.EntityDeclHandler = _refuse_entity
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.data
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(content, True)
    except _Stop:
        pass
    except xml.parsers.expat.ExpatError as error:
        # many drawings are ill-formed only after their metadata, which by then has been read
        if not reader.title and not reader.keywords:
            raise MetadataRejected(f"{path.name} is not well-formed: {error}") from error
    return SvgMetadata(
        title=reader.title,
        keywords=tuple(dict.fromkeys(reader.keywords)),
        creator=reader.creator,
        licence=reader.licence,
    )


def _refuse_entity(*_: object) -> None:
    raise MetadataRejected("the SVG declares entities, which are never expanded")


def _unescape(text: str) -> str:
    """Plain text: the source escaped some titles two or three times over."""
    for _ in range(3):
        text = html.unescape(text)
    if "Ã" in text:
        with contextlib.suppress(UnicodeError):
            text = text.encode("latin-1").decode("utf-8")
    return " ".join(text.split())
