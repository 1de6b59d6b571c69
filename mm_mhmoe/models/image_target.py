"""What the head over hidden patches was trained to say, as a saved model tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["codes", "pixels", "features"]


@dataclass(frozen=True, kw_only=True)
class ImageTarget:
    """The meaning of a pretraining model's image head.

    Args:
        kind: codes: logits over a visual tokenizer's codes; pixels: normalised pixels of the patch; features: those of
            a teacher.
        source: whose codes or features: the visual tokenizer's fingerprint, or the teacher's name and the loss; empty
            where it is not known.
    """

    kind: Kind = "codes"
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("codes", "pixels", "features"):
            raise ValueError(f"image_target={self.kind} is unknown; known are codes, pixels and features")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageTarget:
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"image target: {error}") from error

    def means(self, other: ImageTarget) -> bool:
        """Whether outputs of both, being equally many, say the same; an unknown source is believed to be the other."""
        return self.kind == other.kind and (self.source == other.source or not (self.source and other.source))
