"""`mm-mhmoe finetune TASK`: a file a task."""

from mm_mhmoe.commands.finetune.captioning import captioning
from mm_mhmoe.commands.finetune.classification import classification
from mm_mhmoe.commands.finetune.nlvr2 import nlvr2
from mm_mhmoe.commands.finetune.retrieval import retrieval
from mm_mhmoe.commands.finetune.vqa import vqa

__all__ = ["nlvr2", "retrieval", "vqa", "captioning", "classification"]
