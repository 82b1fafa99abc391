"""Carrying trained Keras networks over to PyTorch, and their weights back."""

from tfcompat_dw.porting.export_keras import export_keras_weights
from tfcompat_dw.porting.layer import LayerSpec, PortError, TfWeight
from tfcompat_dw.porting.load import load_tf_weights
from tfcompat_dw.porting.model import PortedModel
from tfcompat_dw.porting.port import port_model

__all__ = [
    "LayerSpec",
    "PortError",
    "PortedModel",
    "TfWeight",
    "export_keras_weights",
    "load_tf_weights",
    "port_model",
]
