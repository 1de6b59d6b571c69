"""Pictures of one set of shards that occur in another."""

from mm_mhmoe_data.overlap.find import Match, Overlap, find_overlap

__all__ = ["Match", "Overlap", "find_overlap"]
