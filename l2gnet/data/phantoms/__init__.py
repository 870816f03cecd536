"""Seeded synthetic patients, made on the fly with labels: cardiac MR, abdominal CT, and tasks that want a far view."""

from l2gnet.data.phantoms.abdomen import ABDOMEN_CLASSES, make_abdomen
from l2gnet.data.phantoms.canvas import PhantomCase, TaskCase
from l2gnet.data.phantoms.heart import HEART_CLASSES, make_heart
from l2gnet.data.phantoms.kidneys import KIDNEY_CLASSES, make_kidneys
from l2gnet.data.phantoms.tasks import KEY_CLASSES, MATCH_CLASSES, SIDE_CLASSES, make_key, make_match, make_side

__all__ = [
    "ABDOMEN_CLASSES",
    "HEART_CLASSES",
    "KEY_CLASSES",
    "KIDNEY_CLASSES",
    "MATCH_CLASSES",
    "SIDE_CLASSES",
    "PhantomCase",
    "TaskCase",
    "make_abdomen",
    "make_heart",
    "make_key",
    "make_kidneys",
    "make_match",
    "make_side",
]
