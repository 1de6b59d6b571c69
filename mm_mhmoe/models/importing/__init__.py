"""Other people's weights as models of this project: pure functions of their names and tensors.

docs/IMPORT.md says what is taken from where.
"""

from mm_mhmoe.models.importing.beit import beit_config, beit_model, check_beit
from mm_mhmoe.models.importing.beit3 import beit3_config
from mm_mhmoe.models.importing.beit3_tasks import Task, beit3_model, beit3_task
from mm_mhmoe.models.importing.files import read_state_dict
from mm_mhmoe.models.importing.timm_vit import vit_config, vit_model
from mm_mhmoe.models.importing.words import project_order, project_tokenizer, reorder_words

__all__ = [
    "Task",
    "beit3_config",
    "beit3_model",
    "beit3_task",
    "beit_config",
    "beit_model",
    "check_beit",
    "project_order",
    "project_tokenizer",
    "read_state_dict",
    "reorder_words",
    "vit_config",
    "vit_model",
]
