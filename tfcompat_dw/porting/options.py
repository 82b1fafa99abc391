"""What a caller of ``port_model`` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfcompat_dw.porting.layer import Builder
from tfcompat_dw.porting.model import DataFormat


@dataclass(frozen=True)
class Options:
    """How a network is carried over; all but the first two are for graphs."""

    data_format: DataFormat = "channels_last"
    layers: Mapping[str, Builder] = field(default_factory=dict)
    """Builders for classes of layers and kinds of operations."""
    input_shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    simulate_quantization: bool = False
