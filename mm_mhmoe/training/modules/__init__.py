"""Lightning modules: each wires a model, an objective and an optimiser. No maths here."""

from mm_mhmoe.training.modules.captioning import CaptionModule
from mm_mhmoe.training.modules.classification import ClassificationModule
from mm_mhmoe.training.modules.language import LanguageModule
from mm_mhmoe.training.modules.nlvr2 import NLVR2Module
from mm_mhmoe.training.modules.pretrain import PretrainModule
from mm_mhmoe.training.modules.retrieval import RetrievalModule
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.modules.visual_tokenizer import VisualTokenizerModule
from mm_mhmoe.training.modules.vqa import VQAModule

__all__ = [
    "LanguageModule",
    "ClassificationModule",
    "NLVR2Module",
    "CaptionModule",
    "PretrainModule",
    "RetrievalModule",
    "RunModule",
    "StepResult",
    "VQAModule",
    "VisualTokenizerModule",
    "finish_step",
]
