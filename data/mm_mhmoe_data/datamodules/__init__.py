"""Lightning data modules on shards."""

from mm_mhmoe_data.datamodules.classification import ClassificationDataModule
from mm_mhmoe_data.datamodules.language import LanguageDataModule
from mm_mhmoe_data.datamodules.nlvr2 import NLVR2DataModule
from mm_mhmoe_data.datamodules.pairs import PairDataModule
from mm_mhmoe_data.datamodules.pictures import PictureDataModule
from mm_mhmoe_data.datamodules.pretrain import PretrainDataModule
from mm_mhmoe_data.datamodules.steps import StepDataModule
from mm_mhmoe_data.datamodules.vqa import VQADataModule

__all__ = [
    "LanguageDataModule",
    "ClassificationDataModule",
    "NLVR2DataModule",
    "PairDataModule",
    "PictureDataModule",
    "PretrainDataModule",
    "StepDataModule",
    "VQADataModule",
]
