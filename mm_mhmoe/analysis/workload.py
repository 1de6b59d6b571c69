"""What one device computes in one step of masked pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mm_mhmoe.config import EncoderConfig


class Work(Protocol):
    """Streams, planned or counted: what the FLOPs of a step depend on. For each part see Workload."""

    @property
    def pictures(self) -> int: ...

    @property
    def cls_loss(self) -> bool: ...

    def streams(self, config: EncoderConfig) -> list[tuple[int, int]]: ...

    def hidden_patches(self, config: EncoderConfig) -> int: ...

    def hidden_words(self, config: EncoderConfig) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The streams of a step. Texts count as long as they may get, padding included.

    Args:
        batch_images: rows of the picture stream; 0: no such stream.
        batch_texts: rows of the text stream.
        batch_pairs: rows of the pair stream.
        image_mask: share of patches that are hidden in the picture stream.
        text_mask: share of tokens that are hidden in the text stream.
        pair_image_mask: share of patches that are hidden in pairs.
        pair_text_mask: share of tokens that are hidden in pairs.
        cls_loss: whether hidden positions are also predicted from [CLS].
    """

    batch_images: int = 0
    batch_texts: int = 0
    batch_pairs: int = 0
    image_mask: float = 0.4
    text_mask: float = 0.15
    pair_image_mask: float = 0.4
    pair_text_mask: float = 0.5
    cls_loss: bool = False

    def __post_init__(self) -> None:
        batches = {name: getattr(self, name) for name in ("batch_images", "batch_texts", "batch_pairs")}
        for name, rows in batches.items():
            if rows < 0:
                raise ValueError(f"{name}={rows} must be 0 or more")
        if not any(batches.values()):
            raise ValueError("batch_images, batch_texts and batch_pairs are all 0; give one of them rows")
        for name in ("image_mask", "text_mask", "pair_image_mask", "pair_text_mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie between 0 and 1")

    def streams(self, config: EncoderConfig) -> list[tuple[int, int]]:
        """(rows, length of a row) of each stream that is there."""
        image, text = 1 + config.vision.num_patches, config.text.max_length
        every = ((self.batch_images, image), (self.batch_texts, text), (self.batch_pairs, image + text))
        return [(rows, length) for rows, length in every if rows]

    def tokens(self, config: EncoderConfig) -> int:
        return sum(rows * length for rows, length in self.streams(config))

    @property
    def pictures(self) -> int:
        return self.batch_images + self.batch_pairs

    @property
    def texts(self) -> int:
        return self.batch_texts + self.batch_pairs

    def hidden_patches(self, config: EncoderConfig) -> int:
        """Masked patches of a step, as the data module draws them."""
        patches = config.vision.num_patches
        return self.batch_images * round(self.image_mask * patches) + self.batch_pairs * round(
            self.pair_image_mask * patches
        )

    def hidden_words(self, config: EncoderConfig) -> int:
        """Masked tokens of a step on average; the begin and end token are never masked, one other always is."""
        free = config.text.max_length - 2
        return round(
            self.batch_texts * max(1.0, self.text_mask * free) + self.batch_pairs * max(1.0, self.pair_text_mask * free)
        )
