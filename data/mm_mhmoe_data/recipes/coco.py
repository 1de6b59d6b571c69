"""The recipe for COCO's captions in Karpathy's splits."""

from __future__ import annotations

from pathlib import Path

from .karpathy import plan_karpathy
from .plan import Plan
from .research_files import require_folder
from .research_options import BuildOptions

EXPECTED = {"train": 113_287, "val": 5_000, "test": 5_000}  # Karpathy and Fei-Fei 2015, with restval in train


def plan_coco(root: Path, options: BuildOptions) -> Plan:
    """`root` holds train2014/, val2014/ and dataset_coco.json; keys are COCO's image ids with nine digits.

    Raises ValueError, naming what is missing or is not as described.
    """
    for folder in ("train2014", "val2014"):
        require_folder(root / folder)
    return plan_karpathy(
        root,
        "coco",
        licence="captions CC BY 4.0; pictures under the Flickr terms of use",
        expected=EXPECTED,
        options=options,
    )
