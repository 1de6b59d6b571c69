"""Tar shards of samples: naming, writing, checking, reading."""

from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.location import Shard
from mm_mhmoe_data.shards.sources import Source, expand_sources
from mm_mhmoe_data.shards.spec import expand_shards
from mm_mhmoe_data.shards.tar import check_shard, iter_samples, split_name
from mm_mhmoe_data.shards.writer import Sample, write_shard, write_shards

__all__ = [
    "Sample",
    "Shard",
    "ShardError",
    "Source",
    "check_shard",
    "expand_shards",
    "expand_sources",
    "iter_samples",
    "split_name",
    "write_shard",
    "write_shards",
]
