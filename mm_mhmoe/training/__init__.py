"""Thin Lightning modules, optimisers and callbacks."""
