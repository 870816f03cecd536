"""L2GNet: discrete codes related globally by optimal transport, for medical image segmentation."""

from l2gnet.mapper import L2GMapper
from l2gnet.models import build_model
from l2gnet.transport import TransportPlan, solve_transport

__all__ = ["L2GMapper", "TransportPlan", "build_model", "solve_transport"]
