"""Layers: pure tensors, no configuration, no training framework, no process groups."""

from mm_mhmoe.nn.attention import SelfAttention
from mm_mhmoe.nn.balance import expert_counts, expert_load, load_balance_loss, router_z_loss
from mm_mhmoe.nn.capacity import Capacity
from mm_mhmoe.nn.dispatch import DispatchPlan, DroplessDispatcher
from mm_mhmoe.nn.embeddings import ImageEmbedding, PatchEmbedding, TextEmbedding, patchify, unpatchify
from mm_mhmoe.nn.expert_choice import ExpertChoiceRouter
from mm_mhmoe.nn.experts import Experts
from mm_mhmoe.nn.feedforward import FeedForward
from mm_mhmoe.nn.key_values import KeyValues
from mm_mhmoe.nn.layer_scale import LayerScale
from mm_mhmoe.nn.moe import MoE
from mm_mhmoe.nn.multihead_moe import MultiHeadMoE
from mm_mhmoe.nn.multiway import Multiway, MultiwayMoE, by_modality, each_modality, ways
from mm_mhmoe.nn.norms import NormKind, make_norm
from mm_mhmoe.nn.relative_position import RelativePositions
from mm_mhmoe.nn.rotary import RotaryPositions
from mm_mhmoe.nn.router import TopKRouter
from mm_mhmoe.nn.routing import Routing
from mm_mhmoe.nn.rows import Rows, sort_rows, weighted_sum
from mm_mhmoe.nn.segments import Past, Segment
from mm_mhmoe.nn.sigmoid_router import SigmoidRouter
from mm_mhmoe.nn.xmoe_router import XMoERouter

__all__ = [
    "Capacity",
    "DispatchPlan",
    "DroplessDispatcher",
    "ExpertChoiceRouter",
    "Experts",
    "FeedForward",
    "ImageEmbedding",
    "KeyValues",
    "LayerScale",
    "MoE",
    "MultiHeadMoE",
    "Multiway",
    "MultiwayMoE",
    "NormKind",
    "Past",
    "PatchEmbedding",
    "RelativePositions",
    "RotaryPositions",
    "Routing",
    "Rows",
    "Segment",
    "SelfAttention",
    "SigmoidRouter",
    "TextEmbedding",
    "TopKRouter",
    "XMoERouter",
    "by_modality",
    "each_modality",
    "expert_counts",
    "expert_load",
    "load_balance_loss",
    "make_norm",
    "patchify",
    "router_z_loss",
    "sort_rows",
    "unpatchify",
    "ways",
    "weighted_sum",
]
