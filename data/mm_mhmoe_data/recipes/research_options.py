"""What can be chosen in the recipes for research data sets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .images import check_image_options
from .plan import check_limit


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How pictures are kept.

    Args:
        image_size: the shorter side in pixels that larger pictures are brought down to, as WebP; 0 keeps every
            picture's own bytes.
        quality: of those WebPs, 1 to 100.
    """

    image_size: int = 0
    quality: int = 90

    def __post_init__(self) -> None:
        check_image_options(self.image_size, self.quality)


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
        check_limit(self.limit)

    def arguments(self, **more: Any) -> dict[str, Any]:
        """The arguments of a plan: these and a recipe's own."""
        return asdict(self.pictures) | {"samples_per_shard": self.samples_per_shard, "limit": self.limit} | more
