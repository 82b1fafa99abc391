"""Carrying trained Keras networks over to PyTorch, and their weights back."""

from tfcompat_dw.porting.layer import PortError
from tfcompat_dw.porting.model import PortedModel
from tfcompat_dw.porting.port import port_model

__all__ = ["PortError", "PortedModel", "port_model"]
