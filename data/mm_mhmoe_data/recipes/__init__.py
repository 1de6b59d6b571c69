"""Recipes: from a public source to shards."""
