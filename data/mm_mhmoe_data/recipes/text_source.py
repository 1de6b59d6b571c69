"""Documents of plain text in several layouts, read from any stretch of a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .plan import Dropped
from .unicode import encodable

Layout = Literal["txt", "jsonl", "wikiextractor", "kjv"]

_BLANK_LINES = re.compile(r"\n[ \t\r]*\n")
_VERSE = re.compile(r"(?P<chapter>\S+?\d+):(?P<verse>\d+) (?P<text>.+)")
_MAX_LINE = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The bytes `start` to `end` of a file, whose `path` is relative to the source."""

    path: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text with an `id` that says which split it belongs to, and what else the source says about it."""

    id: str
    paragraphs: Sequence[str]
    facts: Mapping[str, Any] = field(default_factory=dict)


def find_pieces(root: Path, layout: Layout, piece_bytes: int) -> list[Piece]:
    """The source's files in pieces of at most `piece_bytes`; files of layout txt are whole documents, never cut.

    Raises `ValueError` when there are none.
    """
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if _fits(path, layout))
    if not files:
        raise ValueError(f"root={str(root)!r} holds no files of layout {layout}. {_LOOKED_FOR[layout]}")
    pieces: list[Piece] = []
    for path in files:
        name = path.name if path == root else path.relative_to(root).as_posix()
        size = path.stat().st_size
        step = max(size, 1) if layout == "txt" else piece_bytes
        pieces.extend(Piece(path=name, start=at, end=min(at + step, size)) for at in range(0, max(size, 1), step))
    return pieces


_LOOKED_FOR = {
    "txt": "Looked for *.txt, one document a file.",
    "jsonl": "Looked for *.jsonl, *.json and *.ndjson, one JSON object a line.",
    "wikiextractor": "Looked for wiki_NN files, as 'wikiextractor --json' writes them.",
    "kjv": "Give the file that the program of Debian's package bible-kjv writes: bible -f 'gen1:1-rev22:21' > kjv.txt",
}


def _fits(path: Path, layout: Layout) -> bool:
    if path.name.startswith(".") or not path.is_file():
        return False
    if layout == "jsonl":
        return path.suffix in (".jsonl", ".json", ".ndjson")
    return path.name.startswith("wiki_") if layout == "wikiextractor" else path.suffix == ".txt"


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """A file or folder and how to read it; the two fields are for the layouts of one JSON object a line."""

    root: Path
    layout: Layout
    text_field: str = "text"
    id_field: str = "id"

    def read(self, piece: Piece) -> Iterator[Document | Dropped]:
        """The documents that begin in a piece, in their order. Lines are whole wherever a piece was cut."""
        path = self.root if self.root.is_file() else self.root / piece.path
        if self.layout == "txt":
            yield _plain(path, piece.path)
            return
        for line, where in _lines(path, piece):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                yield Dropped(reason="not UTF-8", what=where)
                continue
            yield _verse(text, where) if self.layout == "kjv" else self._record(text, where)

    def _record(self, line: str, where: str) -> Document | Dropped:
        try:
            record = json.loads(line)
        except ValueError:
            return Dropped(reason="line is not JSON", what=where)
        if not isinstance(record, dict) or not isinstance(record.get(self.text_field), str):
            return Dropped(reason=f"no text in the field {self.text_field!r}", what=where)
        paragraphs = [part.strip() for part in encodable(record[self.text_field]).split("\n")]
        facts = {name: encodable(record[name]) for name in ("url", "title") if isinstance(record.get(name), str)}
        if self.layout == "wikiextractor" and paragraphs[0] == facts.get("title"):
            paragraphs = paragraphs[1:]  # the extractor repeats the title as the first line
        return _document(encodable(str(record.get(self.id_field, where))), paragraphs, facts, where)


def _lines(path: Path, piece: Piece) -> Iterator[tuple[bytes, str]]:
    """Lines that are not blank, each with where it begins."""
    with path.open("rb") as file:
        if piece.start:
            file.seek(piece.start - 1)
            file.readline()  # the end of a line that began in the piece before
        while (at := file.tell()) < piece.end:
            line = file.readline(_MAX_LINE)
            if line.strip():
                yield line, f"{piece.path}, byte {at}"


def _plain(path: Path, name: str) -> Document | Dropped:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        return Dropped(reason="not UTF-8", what=name)
    paragraphs = [" ".join(part.split()) for part in _BLANK_LINES.split(text)]
    return _document(name, paragraphs, {}, name)


def _verse(line: str, where: str) -> Document | Dropped:
    found = _VERSE.fullmatch(line.strip())
    if not found:
        return Dropped(reason="not a verse such as 'Ge1:1 In the beginning'", what=where)
    # the id is the chapter, so that whole chapters are held out
    return Document(id=found["chapter"], paragraphs=[found["text"]], facts={"verse": int(found["verse"])})


def _document(name: str, paragraphs: list[str], facts: dict[str, Any], where: str) -> Document | Dropped:
    filled = [part for part in paragraphs if part]
    if not filled:
        return Dropped(reason="empty text", what=where)
    return Document(id=name, paragraphs=filled, facts=facts)
