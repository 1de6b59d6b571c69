"""Encoders, heads and the models that a run trains."""

from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.checkpoints import load, save
from mm_mhmoe.models.encoder import Encoder, EncoderOutput, StreamStates

__all__ = ["Encoder", "EncoderOutput", "StreamStates", "build_encoder", "load", "save"]
