"""The documents of shards as token ids, made once and kept in the user's folder.

A document is its begin token, and after each paragraph the end token. Legend: N tokens, D documents.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mm_mhmoe_data.language.documents import Document, read_documents
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards.cache import cache_root
from mm_mhmoe_data.tokenizer import BOS, EOS, Tokenizer

_FORMAT = 1
_META = "texts.json"
_TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class TokenizedTexts:
    """The documents of one language.

    ids_N: all their tokens, on disk. ends_D: where each document ends in it. bytes: of their texts, line ends counted.
    """

    language: str
    ids_N: NDArray[np.integer]
    ends_D: NDArray[np.int64]
    bytes: int

    def document(self, index: int) -> NDArray[np.integer]:
        """The tokens of one document."""
        return self.ids_N[self.ends_D[index - 1] if index else 0 : self.ends_D[index]]


def tokenized(
    dataset: ShardDataset,
    tokenizer: Tokenizer,
    *,
    languages: Sequence[str] | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> list[TokenizedTexts]:
    """The texts of shards by language, in the order of their names; of earlier calls they are found again.

    Args:
        languages: only those; None: all that there are.
        folder: where they are kept; None: the user's folder.
        say: is told what takes time.

    Raises:
        ValueError: there is no text in one of the languages.
    """
    made_of = [_FORMAT, [checksum for _, checksum in dataset.used_shards()], _checksum(tokenizer.path)]
    name = sha256(json.dumps(made_of).encode()).hexdigest()[:24]
    root = folder or cache_root() / "tokens"
    root.mkdir(parents=True, exist_ok=True)
    target = root / name
    with FileLock(f"{target}.lock"):  # of several processes, one makes them
        if not target.is_dir():
            say(f"data: texts to tokens, kept in {target}")
            _make(dataset, tokenizer, target)
    meta = json.loads((target / _META).read_text(encoding="utf-8"))
    there = meta["languages"]
    check_languages(languages, there)
    return [
        _read(target, number, language, meta)
        for number, language in enumerate(there)
        if languages is None or language in languages
    ]


def check_languages(wanted: Sequence[str] | None, there: Collection[str]) -> None:
    """Raises ValueError where one is missing, or none is wanted."""
    missing = sorted(set(wanted or ()) - set(there))
    if missing or wanted == []:
        raise ValueError(f"languages={missing} are not in these shards; they have {', '.join(sorted(there))}")


def _make(dataset: ShardDataset, tokenizer: Tokenizer, target: Path) -> None:
    for left_over in target.parent.glob(f".{target.name}.*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    lengths: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    try:
        for document, ids in _encoded(read_documents(dataset), tokenizer):
            language = document.language
            number = list(lengths).index(language) if language in lengths else len(lengths)
            with (partial / f"{number}.ids").open("ab") as file:
                file.write(np.array(ids, dtype).tobytes())
            lengths.setdefault(language, []).append(len(ids))
            size = sum(len(text.encode()) + 1 for text in document.paragraphs)
            sizes[language] = sizes.get(language, 0) + size
        order = sorted(lengths)
        for number, language in enumerate(lengths):
            place = order.index(language)
            os.replace(partial / f"{number}.ids", partial / f"{place}.tokens")
            np.save(partial / f"{place}.ends.npy", np.cumsum(lengths[language]))
        meta = {"languages": order, "dtype": np.dtype(dtype).name, "bytes": [sizes[language] for language in order]}
        (partial / _META).write_text(json.dumps(meta), encoding="utf-8")
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _encoded(documents: Iterator[Document], tokenizer: Tokenizer) -> Iterator[tuple[Document, list[int]]]:
    while together := list(islice(documents, _TOGETHER)):
        pieces = iter(tokenizer.encode_all([text for document in together for text in document.paragraphs]))
        for document in together:
            paragraphs = islice(pieces, len(document.paragraphs))
            yield document, document_ids(paragraphs)


def document_ids(paragraphs: Iterator[list[int]] | Sequence[list[int]]) -> list[int]:
    """The pieces of paragraphs as one document."""
    return [BOS, *(index for pieces in paragraphs for index in (*pieces, EOS))]


def _read(target: Path, number: int, language: str, meta: dict[str, Any]) -> TokenizedTexts:
    return TokenizedTexts(
        language=language,
        ids_N=np.memmap(target / f"{number}.tokens", np.dtype(meta["dtype"]), "r"),
        ends_D=np.load(target / f"{number}.ends.npy"),
        bytes=meta["bytes"][number],
    )


def _checksum(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
