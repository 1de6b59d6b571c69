"""The documents of shards as token ids, made once and kept in the user's folder.

A document is its begin token, and after each paragraph the end token. Legend: N tokens, D documents.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mm_mhmoe_data.language.documents import read_documents
from mm_mhmoe_data.parallel import map_in_order, raise_if_stopped
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards.cache import cache_root
from mm_mhmoe_data.shards.location import Shard
from mm_mhmoe_data.tokenizer import BOS, EOS, Tokenizer

_FORMAT = 1
_META = "texts.json"
_TOGETHER = 256
_WORTH_PROCESSES = 300_000  # samples, below which much of the time would be the start of processes


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
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> list[TokenizedTexts]:
    """The texts of shards by language, in the order of their names; of earlier calls they are found again.

    Args:
        languages: only those; None: all that there are.
        folder: where they are kept; None: the user's folder.
        workers: processes, each with a shard at a time; None: one a core, where there are samples enough.
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
            alone = workers is None and len(dataset) < _WORTH_PROCESSES
            _make([shard for shard, _ in dataset.used_shards()], tokenizer, target, 1 if alone else workers)
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


class _Encoded(NamedTuple):
    """A document, or what one shard has of it. bytes: of its text, line ends counted."""

    language: str
    id: str
    ids: NDArray[np.integer]
    bytes: int


def _make(shards: Sequence[Shard], tokenizer: Tokenizer, target: Path, workers: int | None) -> None:
    for left_over in target.parent.glob(f".{target.name}.*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    lengths: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    try:
        with closing(map_in_order(partial(_encoded, tokenizer), shards, workers)) as of_shards, ExitStack() as files:
            ids_files: dict[str, BinaryIO] = {}
            for language, _, ids, size in _joined(chain.from_iterable(of_shards)):
                if language not in ids_files:
                    path = partial_folder / f"{len(ids_files)}.ids"
                    ids_files[language] = files.enter_context(path.open("wb"))
                ids_files[language].write(ids.tobytes())
                lengths.setdefault(language, []).append(len(ids))
                sizes[language] = sizes.get(language, 0) + size
        order = sorted(lengths)
        for number, language in enumerate(lengths):
            place = order.index(language)
            os.replace(partial_folder / f"{number}.ids", partial_folder / f"{place}.tokens")
            np.save(partial_folder / f"{place}.ends.npy", np.cumsum(lengths[language]))
        dtype = np.dtype(_id_type(tokenizer)).name
        meta = {"languages": order, "dtype": dtype, "bytes": [sizes[language] for language in order]}
        (partial_folder / _META).write_text(json.dumps(meta), encoding="utf-8")
        os.replace(partial_folder, target)
    except BaseException:
        shutil.rmtree(partial_folder, ignore_errors=True)
        raise


def _encoded(tokenizer: Tokenizer, shard: Shard) -> list[_Encoded]:
    """The documents of one shard; the last one may go on in the next."""
    documents, found = read_documents(ShardDataset([shard], "texts")), []
    while together := list(islice(documents, _TOGETHER)):
        raise_if_stopped()
        pieces = iter(tokenizer.encode_all([text for document in together for text in document.paragraphs]))
        for document in together:
            ids = document_ids(islice(pieces, len(document.paragraphs)))
            size = sum(len(text.encode()) + 1 for text in document.paragraphs)
            found.append(_Encoded(document.language, document.id, np.array(ids, _id_type(tokenizer)), size))
    return found


def _joined(parts: Iterable[_Encoded]) -> Iterator[_Encoded]:
    """Whole documents: of one that goes on in the next shard, the later begin tokens are left out."""
    for (language, name), run in groupby(parts, key=lambda part: (part.language, part.id)):
        first, *others = run
        ids = np.concatenate([first.ids, *(part.ids[1:] for part in others)]) if others else first.ids
        yield _Encoded(language, name, ids, first.bytes + sum(part.bytes for part in others))


def _id_type(tokenizer: Tokenizer) -> type[np.integer]:
    return np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32


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
