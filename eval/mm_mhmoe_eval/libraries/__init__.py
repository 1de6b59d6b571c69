"""Models of open_clip and timm, with the methods that tasks ask for."""

from mm_mhmoe_eval.libraries.cost import pair_flops
from mm_mhmoe_eval.libraries.names import LIBRARIES, load_library_model
from mm_mhmoe_eval.libraries.open_clip_model import OpenClipModel
from mm_mhmoe_eval.libraries.timm_model import TimmModel

__all__ = ["LIBRARIES", "OpenClipModel", "TimmModel", "load_library_model", "pair_flops"]
