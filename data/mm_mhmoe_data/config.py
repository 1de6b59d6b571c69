"""How a run draws from shards, and what it does to a sample."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Literal

from mm_mhmoe_data.masking import ImageMaskKind
from mm_mhmoe_data.sampling import WINDOW
from mm_mhmoe_data.transforms import Flip, Interpolation


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which shards the streams draw from, in what proportion and order, how samples are changed at random, and how much
    may be unusable.

    Args:
        weights: of the sources that :: joins in shards, joined in the same way ("1::2"); none: all shards are one
            source, in which every sample comes once an epoch.
        image_shards: shards of the picture stream, which may lack texts; none: those of the pairs.
        image_weights: as weights, for image_shards.
        text_shards: shards of the text stream, which may lack pictures; none: those of the pairs.
        text_weights: as weights, for text_shards.
        exclude: file of samples that are left out, a line "SHARD<tab>KEY" for each; data overlap --exclude writes it.
        mix_by: what weights are shares of: samples, or tokens of the texts (estimated from a few hundred samples of
            each source).
        codes: folder of codes that mm-mhmoe data tokenize-images made for the same options, in place of running the
            visual tokenizer (pretraining only); for epochs that are not in it, the tokenizer runs.
        window: samples that are shuffled together; they come from few shards. A smaller set is shuffled as a whole.
        flip: on: every second picture is flipped; caption: not where the text that the stream reads with it says left
            or right; off, because captions say left and right.
        color_jitter: brightness, contrast and saturation change by up to this share (BEiT-3: .4); 0: not at all.
        interpolation: of resizing.
        captions: lines: every line of a text is a caption, and one is drawn; whole: the text is one; auto: lines where
            dataset_type.txt beside the splits says retrieval (CLIP_benchmark, data build coco and flickr30k);
            languages: one of those that .json has, {"captions": {"en": "...", "fr": "..."}}, is drawn.
        whole_word: hides all pieces of a word or none, in the text and pair streams.
        image_mask_kind: which patches masks hide: block: rectangles (BEiT); random: single patches (MAE); cube: squares
            of mask_unit patches a side (SimMIM). Masks of val_shards are of the same kind.
        mask_unit: patches along one side of a cube (SimMIM: 32 pixels, so 2 patches of 16).
        bucket_texts: deals the texts of a step out by length where run.accumulate or several processes make several
            batches of it, so that less is padded (text stream).
        mode: indexed reads any sample at any time and resumes exactly; stream reads shards from their beginning, for
            pipes and for shards that fit on no disk, and resumes approximately (pretraining only).
        buffer: samples among which streaming draws the next.
        allow_pipe: streaming may run the shell commands of pipe: shards.
        max_bad_fraction: share of the samples read that may be unusable before the run stops. Each is replaced by
            another and written to quarantine.jsonl.
        max_bad_in_a_row: unusable samples one after the other at which the run stops.
    """

    weights: str | None = None
    image_shards: str | None = None
    image_weights: str | None = None
    text_shards: str | None = None
    text_weights: str | None = None
    exclude: str | None = None
    codes: str | None = None
    mix_by: Literal["samples", "tokens"] = "samples"
    window: int = WINDOW
    flip: Flip = "off"
    color_jitter: float = 0.0
    interpolation: Interpolation = "bilinear"
    captions: Literal["auto", "lines", "whole", "languages"] = "auto"
    whole_word: bool = False
    image_mask_kind: ImageMaskKind = "block"
    mask_unit: int = 2
    bucket_texts: bool = False
    mode: Literal["indexed", "stream"] = "indexed"
    buffer: int = 1000
    allow_pipe: bool = False
    max_bad_fraction: float = 0.01
    max_bad_in_a_row: int = 20

    def __post_init__(self) -> None:
        for name in ("image", "text"):
            if getattr(self, f"{name}_weights") and not getattr(self, f"{name}_shards"):
                raise ValueError(
                    f"data.{name}_weights needs data.{name}_shards; for the sources in shards there is data.weights"
                )
        indexed = ("weights", "image_weights", "text_weights", "bucket_texts", "exclude")
        if self.mode == "stream" and any(getattr(self, name) for name in indexed):
            raise ValueError("data.mode=stream takes no weights, bucket_texts or exclude; they need indexed shards")
        if self.mode == "stream" and self.captions == "languages":
            raise ValueError("data.mode=stream reads no .json, where captions=languages finds them; use indexed shards")
        if self.mode == "stream" and self.codes:
            raise ValueError("data.mode=stream takes no codes; which sample is which is known of indexed shards only")
        if self.mask_unit < 1:
            raise ValueError(f"data.mask_unit={self.mask_unit} must be 1 or more patches")
        if self.buffer < 0:
            raise ValueError(f"data.buffer={self.buffer} must be 0 or more")


def refuse_unused(data: DataConfig, used: Collection[str]) -> None:
    """Raises ValueError for an option that is set although nothing but `used` has an effect."""
    for field in fields(data):
        value = getattr(data, field.name)
        if field.name not in used and value != field.default:
            raise ValueError(f"data.{field.name}={value} has no effect on this command; leave it out")
