"""Seeded synthetic patients, made on the fly: a short-axis cardiac MR and an abdominal CT, with their labels."""

from l2gnet.data.phantoms.abdomen import ABDOMEN_CLASSES, make_abdomen
from l2gnet.data.phantoms.canvas import PhantomCase
from l2gnet.data.phantoms.heart import HEART_CLASSES, make_heart

__all__ = ["ABDOMEN_CLASSES", "HEART_CLASSES", "PhantomCase", "make_abdomen", "make_heart"]
