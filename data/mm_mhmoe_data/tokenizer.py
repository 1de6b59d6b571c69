"""SentencePiece: training on captions, and the tokenizer that data modules use."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import sentencepiece as spm

from mm_mhmoe.config import TextConfig

TOKENIZER_FILE = "tokenizer.model"
BOS, PAD, EOS, UNK, MASK = 0, 1, 2, 3, 4


Normalization = Literal["nmt_nfkc_cf", "nmt_nfkc", "identity"]


def train_tokenizer(
    texts: Iterable[str],
    out: Path,
    *,
    vocab_size: int,
    normalization: Normalization = "nmt_nfkc_cf",
    character_coverage: float = 0.9995,
    byte_fallback: bool = False,
) -> Path:
    """Trains a unigram model and writes out/tokenizer.model; the same texts give the same bytes.

    Args:
        texts: captions or paragraphs, in any order that is the same each time.
        vocab_size: pieces at most; small texts give fewer.
        normalization: SentencePiece's name: nmt_nfkc_cf (lower case, compatible characters alike), nmt_nfkc (the latter
            only), identity (neither).
        character_coverage: share of all characters that get pieces, the frequent ones.
        byte_fallback: 256 of the pieces are bytes, of which characters that no piece has are made; false: they are
            unknown.

    Raises:
        ValueError: there is nothing to learn from, or vocab_size is too small for the letters of the texts.
    """
    lines = [line for text in texts if (line := " ".join(text.split()))]
    if not lines:
        raise ValueError("there is no text to train a tokenizer on; check the shards")
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="unigram",
            hard_vocab_limit=False,
            character_coverage=character_coverage,
            normalization_rule_name=normalization,
            byte_fallback=byte_fallback,
            bos_id=BOS,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
            user_defined_symbols=["<mask>"],
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(f"vocab_size={vocab_size} does not fit these {len(lines)} texts: {error}") from error
    out.mkdir(parents=True, exist_ok=True)
    target = out / TOKENIZER_FILE
    descriptor, partial = tempfile.mkstemp(prefix=f".{TOKENIZER_FILE}.", dir=out)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(model.getvalue())
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return target


class Tokenizer:
    """A trained SentencePiece model. It can be sent to data workers.

    Args:
        path: the .model file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._model = spm.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path} is not a SentencePiece model ({error}); train it again") from error

    @classmethod
    def load(cls, source: Path | str) -> Tokenizer:
        """From a .model file, or a directory that holds tokenizer.model."""
        path = Path(source)
        path = path / TOKENIZER_FILE if path.is_dir() else path
        if not path.is_file():
            raise ValueError(f"tokenizer {path} does not exist; make it with: mm-mhmoe tokenizer train --out {source}")
        return cls(path)

    def __len__(self) -> int:
        return self._model.get_piece_size()

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def encode(self, text: str, max_length: int) -> list[int]:
        """Ids with begin and end token, at most max_length of them; a longer text loses its last pieces."""
        return [BOS, *self._model.encode(text)[: max_length - 2], EOS]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, whole and without begin and end token."""
        return self._model.encode(list(texts))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens are left out, and so are rows of a larger vocabulary that are no pieces."""
        return self._model.decode([i for i in ids if MASK < i < len(self)])

    def coverage(self, texts: Iterable[str]) -> float:
        """The share of characters that some piece has; others are bytes, or unknown."""
        model = self._model
        single = {c for i in range(len(self)) if not (model.is_byte(i) or i <= MASK) for c in model.id_to_piece(i)}
        known = total = 0
        for text in texts:
            normal = model.normalize(text)
            total += len(normal)
            known += sum(character in single for character in normal)
        return known / total if total else 1.0

    def piece(self, index: int) -> str:
        return self._model.id_to_piece(index)

    def check(self, text: TextConfig) -> None:
        """Raises ValueError, with both values, where the encoder's configuration does not fit this tokenizer."""
        ours = {"bos_id": BOS, "pad_id": PAD, "eos_id": EOS, "unk_id": UNK, "mask_id": MASK}
        wrong = [f"text.{k}={getattr(text, k)}, tokenizer {v}" for k, v in ours.items() if getattr(text, k) != v]
        if len(self) > text.vocab_size:
            wrong.append(f"text.vocab_size={text.vocab_size}, tokenizer {len(self)} pieces")
        if wrong:
            raise ValueError(f"the encoder does not fit the tokenizer {self.path}: {'; '.join(wrong)}")
