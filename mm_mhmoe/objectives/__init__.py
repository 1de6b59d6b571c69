"""Losses: plain functions of model outputs and batches."""
