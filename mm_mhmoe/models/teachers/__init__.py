"""What the visual tokenizer learns to predict for every patch: pixels, gradients, or the features of a frozen model."""

from mm_mhmoe.models.teachers.hog import HOGTeacher
from mm_mhmoe.models.teachers.names import build_teacher, check_teacher_name
from mm_mhmoe.models.teachers.network import NetworkTeacher
from mm_mhmoe.models.teachers.pixels import PixelTeacher

Teacher = PixelTeacher | HOGTeacher | NetworkTeacher
"""Pictures, uint8 or floats in [-1, 1], to one target a patch: (B, 3, H, W) -> (B, N, P), with `dim` = P."""

__all__ = ["HOGTeacher", "NetworkTeacher", "PixelTeacher", "Teacher", "build_teacher", "check_teacher_name"]
