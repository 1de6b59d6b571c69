"""The recipe for Flickr30k in Karpathy's splits."""

from __future__ import annotations

from pathlib import Path

from .karpathy import plan_karpathy
from .plan import Plan
from .research_files import require_folder
from .research_options import BuildOptions

EXPECTED = {"train": 29_000, "val": 1_014, "test": 1_000}  # Karpathy and Fei-Fei 2015


def plan_flickr30k(root: Path, options: BuildOptions) -> Plan:
    """`root` holds flickr30k-images/ and dataset_flickr30k.json; keys are Flickr's numbers of the pictures.

    Raises ValueError, naming what is missing or is not as described.
    """
    require_folder(root / "flickr30k-images")
    return plan_karpathy(
        root,
        "flickr30k",
        licence="for non-commercial research and education; pictures under the Flickr terms of use",
        expected=EXPECTED,
        options=options,
    )
