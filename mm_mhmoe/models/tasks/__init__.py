"""The models that runs train: an encoder with the heads of its task. A file a kind."""

from mm_mhmoe.models.tasks.base import TaskModel
from mm_mhmoe.models.tasks.captioning import CaptionModel
from mm_mhmoe.models.tasks.classification import ClassificationModel
from mm_mhmoe.models.tasks.language import LanguageModel
from mm_mhmoe.models.tasks.nlvr2 import NLVR2Model
from mm_mhmoe.models.tasks.pretrain import PretrainModel
from mm_mhmoe.models.tasks.retrieval import RetrievalModel
from mm_mhmoe.models.tasks.vqa import VQAModel

TASK_MODELS: tuple[type[TaskModel], ...] = (
    PretrainModel,
    RetrievalModel,
    VQAModel,
    NLVR2Model,
    CaptionModel,
    ClassificationModel,
    LanguageModel,
)

__all__ = [
    "TASK_MODELS",
    "CaptionModel",
    "ClassificationModel",
    "LanguageModel",
    "NLVR2Model",
    "PretrainModel",
    "RetrievalModel",
    "TaskModel",
    "VQAModel",
]
