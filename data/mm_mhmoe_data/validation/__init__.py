"""What is wrong with shards: found before training, named, and mended where that can be done."""

from mm_mhmoe_data.validation.findings import KINDS, Checks, Finding, Report
from mm_mhmoe_data.validation.run import validate_shards

__all__ = ["KINDS", "Checks", "Finding", "Report", "validate_shards"]
