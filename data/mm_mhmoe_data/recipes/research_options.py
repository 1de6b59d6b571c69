"""What can be chosen in the recipes for research data sets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

_MIN_IMAGE_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How pictures are kept.

    Args:
        image_size: the shorter side in pixels that larger pictures are brought down to, as JPEGs; 0 keeps every
            picture's own bytes.
        quality: of those JPEGs, 1 to 100.
    """

    image_size: int = 0
    quality: int = 90

    def __post_init__(self) -> None:
        if self.image_size and self.image_size < _MIN_IMAGE_SIZE:
            raise ValueError(
                f"image_size={self.image_size} must be 0 (pictures keep their bytes) or at least {_MIN_IMAGE_SIZE}"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality} must be between 1 and 100")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The pictures, and how many samples go where.

    Args:
        samples_per_shard: samples of a full shard.
        limit: only the first so many samples of each split, for a trial; None takes all.
    """

    pictures: PictureOptions = field(default_factory=PictureOptions)
    samples_per_shard: int = 1000
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard={self.samples_per_shard} must be at least 1")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit} must be at least 1, or not given")

    def arguments(self, **more: Any) -> dict[str, Any]:
        """The arguments of a plan: these and a recipe's own."""
        return asdict(self.pictures) | {"samples_per_shard": self.samples_per_shard, "limit": self.limit} | more
