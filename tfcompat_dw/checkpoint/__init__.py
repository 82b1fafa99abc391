"""Trained weights out of TensorFlow's and Keras' files, without TensorFlow.

``open_checkpoint(path)`` gives a mapping from the file's own names to tensors.  What a file says
is checked before it is believed: a damaged or hostile one raises :class:`CheckpointError`.
"""

from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError, TensorInfo
from tfcompat_dw.checkpoint.open import open_checkpoint

__all__ = ["Checkpoint", "CheckpointError", "TensorInfo", "open_checkpoint"]
