"""Figures about routing. Each function takes plain values and gives a figure; its caption says how to read it."""
