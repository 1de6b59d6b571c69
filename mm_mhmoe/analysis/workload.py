"""What one device computes in one step of masked pretraining, or of a language model's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from mm_mhmoe.config import EncoderConfig


class Work(Protocol):
    """Streams, planned or counted: what the FLOPs of a step depend on. For each part see Workload."""

    @property
    def pictures(self) -> int: ...

    @property
    def cls_loss(self) -> bool: ...

    @property
    def embed_dim(self) -> int: ...

    @property
    def compared(self) -> int: ...

    @property
    def matched(self) -> int: ...

    def streams(self, config: EncoderConfig) -> list[tuple[int, int]]: ...

    def hidden_patches(self, config: EncoderConfig) -> int: ...

    def hidden_words(self, config: EncoderConfig) -> int: ...

    def next_words(self, config: EncoderConfig) -> int: ...


@dataclass(frozen=True, kw_only=True)
class PatchTarget:
    """What hidden patches are predicted as.

    Args:
        outputs: width of the head: codes of a visual tokenizer, values of a patch, or of a teacher's features.
        loss: cross_entropy of codes, mse of pixels, cosine or smooth_l1 of features.
    """

    outputs: int
    loss: Literal["cross_entropy", "mse", "cosine", "smooth_l1"] = "cross_entropy"

    def __post_init__(self) -> None:
        if self.outputs < 1:
            raise ValueError(f"the head over hidden patches has {self.outputs} outputs; it needs 1 or more")


class Stream(NamedTuple):
    """Rows that go through the encoder, each with so many tokens of a picture and of a text.

    causal: whether a text token sees the picture and the tokens before it only.
    """

    rows: int
    image: int
    text: int
    causal: bool = False

    @property
    def length(self) -> int:
        return self.image + self.text


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
        caption_loss: whether the texts of pairs are also written from left to right.
        contrastive_loss: whether pictures and texts of pairs are also compared.
        itm_loss: whether pairs are also told from pictures with another text, and texts with another picture.
        embed_dim: width of what contrastive_loss compares.
        sequences: rows of a language model, whose step has nothing else; every token but the first is predicted.
    """

    batch_images: int = 0
    batch_texts: int = 0
    batch_pairs: int = 0
    image_mask: float = 0.4
    text_mask: float = 0.15
    pair_image_mask: float = 0.4
    pair_text_mask: float = 0.5
    cls_loss: bool = False
    caption_loss: bool = False
    contrastive_loss: bool = False
    itm_loss: bool = False
    embed_dim: int = 256
    sequences: int = 0

    def __post_init__(self) -> None:
        batches = {name: getattr(self, name) for name in ("batch_images", "batch_texts", "batch_pairs", "sequences")}
        for name, rows in batches.items():
            if rows < 0:
                raise ValueError(f"{name}={rows} must be 0 or more")
        if not any(batches.values()):
            raise ValueError("batch_images, batch_texts and batch_pairs are all 0; give one of them rows")
        for name in ("image_mask", "text_mask", "pair_image_mask", "pair_text_mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie between 0 and 1")

        if self.itm_loss and not self.contrastive_loss:
            raise ValueError("itm_loss=true needs contrastive_loss=true, which chooses its negatives; set both")
        if self.batch_pairs < 2 and (self.caption_loss or self.contrastive_loss):
            raise ValueError(
                f"caption_loss, contrastive_loss and itm_loss learn from pairs, but batch_pairs={self.batch_pairs}; "
                "set it to 2 or more"
            )
        if self.sequences and sum(batches.values()) > self.sequences:
            raise ValueError(f"sequences={self.sequences} are a language model's step; set the other batches to 0")

    def passes(self, config: EncoderConfig) -> list[list[Stream]]:
        """The streams of each pass of the encoder: one pass for all, and with itm_loss a second one, of three rows a
        pair."""
        image, text, pairs = 1 + config.vision.num_patches, config.text.max_length, self.batch_pairs
        first = [Stream(self.batch_images, image, 0), Stream(self.batch_texts, 0, text), Stream(pairs, image, text)]
        first.append(Stream(self.sequences, 0, text, causal=True))
        if self.caption_loss:
            first.append(Stream(pairs, image, text, causal=True))
        if self.contrastive_loss:
            first += [Stream(pairs, image, 0), Stream(pairs, 0, text)]
        second = [Stream(3 * pairs, image, text)] if self.itm_loss else []
        there = [[stream for stream in streams if stream.rows] for streams in (first, second)]
        return [streams for streams in there if streams]

    def streams(self, config: EncoderConfig) -> list[tuple[int, int]]:
        """(rows, length of a row) of each stream that is there."""
        return [(stream.rows, stream.length) for streams in self.passes(config) for stream in streams]

    def tokens(self, config: EncoderConfig) -> int:
        return sum(rows * length for rows, length in self.streams(config))

    @property
    def pictures(self) -> int:
        """How many pictures the encoder sees; one that it sees twice counts twice."""
        return self.batch_images + self._pairs_seen

    @property
    def texts(self) -> int:
        """How many texts the encoder sees."""
        return self.batch_texts + self.sequences + self._pairs_seen

    @property
    def _pairs_seen(self) -> int:
        return self.batch_pairs * (1 + self.caption_loss + self.contrastive_loss + 3 * self.itm_loss)

    @property
    def compared(self) -> int:
        """Pairs whose pictures and texts are compared."""
        return self.batch_pairs * self.contrastive_loss

    @property
    def matched(self) -> int:
        """Rows of which matching is asked."""
        return 3 * self.batch_pairs * self.itm_loss

    def patches_by_loss(self, config: EncoderConfig) -> tuple[int, int]:
        """Masked patches of pictures and of pairs, as the data module draws them."""
        patches = config.vision.num_patches
        return (
            self.batch_images * round(self.image_mask * patches),
            self.batch_pairs * round(self.pair_image_mask * patches),
        )

    def words_by_loss(self, config: EncoderConfig) -> tuple[int, int]:
        """Masked tokens of texts and of pairs on average; the begin and end token are never masked, one other always
        is."""
        free = config.text.max_length - 2
        return (
            round(self.batch_texts * max(1.0, self.text_mask * free)),
            round(self.batch_pairs * max(1.0, self.pair_text_mask * free)),
        )

    def hidden_patches(self, config: EncoderConfig) -> int:
        return sum(self.patches_by_loss(config))

    def hidden_words(self, config: EncoderConfig) -> int:
        return sum(self.words_by_loss(config))

    def next_words(self, config: EncoderConfig) -> int:
        """Tokens of captions and sequences that are predicted from those before them: all but the first."""
        return (self.batch_pairs * self.caption_loss + self.sequences) * (config.text.max_length - 1)
