"""Texts."""

from __future__ import annotations

from dataclasses import dataclass

from mm_mhmoe.config.checks import require


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Texts as the encoder takes them.

    Args:
        vocab_size: rows of the token table; at least the pieces of the tokenizer.
        max_length: longest text in tokens, begin and end tokens included.
        positions: rows of the table of text positions; null: max_length. BEiT-3's table is longer than its texts.
        bos_id: id of the begin token, which serves as the text's [CLS].
        pad_id: id of padding.
        eos_id: id of the end token.
        unk_id: id of an unknown piece.
        mask_id: id that stands in for a hidden token.
    """

    vocab_size: int = 64010
    max_length: int = 64
    positions: int | None = None
    bos_id: int = 0
    pad_id: int = 1
    eos_id: int = 2
    unk_id: int = 3
    mask_id: int = 4

    def __post_init__(self) -> None:
        require(self.max_length >= 3, f"text.max_length={self.max_length} leaves no room for a token; use 3 or more")
        require(
            self.num_positions >= self.max_length,
            f"text.positions={self.positions} is less than text.max_length={self.max_length}; lower the latter",
        )
        ids = (self.bos_id, self.pad_id, self.eos_id, self.unk_id, self.mask_id)
        require(
            len(set(ids)) == len(ids) and min(ids) >= 0 and max(ids) < self.vocab_size,
            f"text special ids {ids} must differ and lie below text.vocab_size={self.vocab_size}",
        )

    @property
    def num_positions(self) -> int:
        """Rows of the table of positions."""
        return self.max_length if self.positions is None else self.positions
