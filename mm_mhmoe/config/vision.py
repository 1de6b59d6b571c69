"""Pictures."""

from __future__ import annotations

from dataclasses import dataclass

from mm_mhmoe.config.checks import require


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Pictures as the encoder takes them.

    Args:
        image_size: side of the square picture in pixels.
        patch_size: side of a square patch in pixels; divides image_size.
        pixel_mean: mean of each colour channel, with black 0 and white 1; pixels are normalised by it (BEiT-3: .5).
        pixel_std: standard deviation of each channel, in the same scale (BEiT-3: .5).
    """

    image_size: int = 224
    patch_size: int = 16
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("pixel_mean", "pixel_std"):  # JSON and YAML know lists only
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        require(
            len(self.pixel_mean) == len(self.pixel_std) == 3 and min(self.pixel_std) > 0,
            f"vision.pixel_mean={self.pixel_mean} and vision.pixel_std={self.pixel_std} need a number for red, green "
            "and blue each, the latter positive",
        )
        require(
            self.patch_size > 0 and self.image_size > 0 and self.image_size % self.patch_size == 0,
            f"vision.image_size={self.image_size} is not a positive multiple of vision.patch_size={self.patch_size}; "
            "change one of them",
        )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        return self.grid**2
