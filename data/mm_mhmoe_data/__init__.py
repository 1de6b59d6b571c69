"""Shards: recipes, reading, checking, and the batches made of them."""
