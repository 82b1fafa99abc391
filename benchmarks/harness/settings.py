"""The contestants: one worker process each, with its environment, and what runs in it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Setting:
    """A contestant."""

    name: str
    title: str
    module: str
    """The Python module that defines it."""
    peer: str
    """The class in it, a ``harness.peer.Peer``."""
    environment: dict[str, str] = field(default_factory=dict)


def _torch(name: str, title: str, peer: str) -> Setting:
    return Setting(name, title, "harness.peer_torch", peer)


def _tensorflow(name: str, title: str, onednn: str) -> Setting:
    environment = {"TF_ENABLE_ONEDNN_OPTS": onednn, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return Setting(name, title, "harness.peer_tensorflow", "TensorFlow", environment)


OURS = Setting("ours", "ours", "harness.peer_ours", "Operator")
KERNEL = Setting("ours_kernel", "ours: kernel", "harness.peer_kernel", "Kernel")
FUNCTION = Setting("ours_function", "ours: tf.nn function", "harness.peer_ours", "Function")
OWN = (OURS, KERNEL, FUNCTION)
PEERS = (
    _torch("torch_contiguous", "torch contiguous", "Contiguous"),
    _torch("torch_channels_last", "torch channels_last", "ChannelsLast"),
    _tensorflow("tensorflow_onednn", "TF oneDNN", "1"),
    _tensorflow("tensorflow_eigen", "TF Eigen", "0"),
    Setting("tflite", "TFLite XNNPACK", "harness.peer_tflite", "TFLite"),
    Setting("onnxruntime", "ONNX Runtime", "harness.peer_onnxruntime", "OnnxRuntime"),
    Setting(
        "keras_torch", "Keras on torch", "harness.peer_keras", "Keras", {"KERAS_BACKEND": "torch"}
    ),
)
TITLES = {setting.name: setting.title for setting in (*OWN, *PEERS)}
