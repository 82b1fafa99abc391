"""Layers that make images fit: rescaling, resizing, cropping; augmentation is left out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import (
    back,
    channels_last,
    first,
    flag,
    refuse,
    sizes,
    text,
)


class Rescaling(nn.Module):
    """``x * scale + offset``; a number each, or one for each channel."""

    def __init__(self, scale: list[float], offset: list[float]) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Tensor) -> Tensor:
        """Integers become numbers of PyTorch's default type."""
        x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
        return x * self._value(x, self.scale) + self._value(x, self.offset)

    @staticmethod
    def _value(x: Tensor, values: list[float]) -> float | Tensor:
        return values[0] if len(values) == 1 else x.new_tensor(values)

    def extra_repr(self) -> str:
        """Scale and offset."""
        return f"scale={self.scale}, offset={self.offset}"


class Resizing(nn.Module):
    """To rows and columns, with TF 2's half-pixel centres and no antialiasing."""

    def __init__(self, size: tuple[int, int], interpolation: str, is_last: bool) -> None:
        super().__init__()
        self.size, self.interpolation, self.is_last = size, interpolation, is_last

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out."""
        single = x.dim() == 3
        x = first(x[None] if single else x, self.is_last)
        if self.interpolation == "nearest":
            y = F.interpolate(x, self.size, mode="nearest-exact")
        else:
            y = F.interpolate(x, self.size, mode="bilinear", align_corners=False)
        y = back(y, self.is_last)
        return y[0] if single else y

    def extra_repr(self) -> str:
        """Size and interpolation."""
        return f"{self.size}, {self.interpolation}"


class CenterCrop(nn.Module):
    """The middle of larger images."""

    def __init__(self, size: tuple[int, int], is_last: bool) -> None:
        super().__init__()
        self.size, self.is_last = size, is_last

    def forward(self, x: Tensor) -> Tensor:
        """A view; ``ValueError`` for smaller images, which Keras would resize."""
        axis = x.dim() - 3 if self.is_last else x.dim() - 2
        for place, wanted in zip((axis, axis + 1), self.size, strict=True):
            if x.shape[place] < wanted:
                raise ValueError(
                    f"CenterCrop to {self.size} of {tuple(x.shape)}: resize smaller images before"
                )
            x = x.narrow(place, (x.shape[place] - wanted) // 2, wanted)
        return x

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.size}"


class LeftOut(nn.Identity):
    """An augmentation: does nothing, in training either; augment the data where you load them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def extra_repr(self) -> str:
        """Its class."""
        return self.name


# ---- builders ------------------------------------------------------------------------------------


def _values(spec: LayerSpec, key: str, default: float) -> list[float]:
    value = spec.config.get(key, default)
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        raise refuse(f"{key}={value!r}; a number, or one for each channel, is expected")
    return [float(v) for v in values]


def _rescaling(spec: LayerSpec) -> nn.Module:
    return Rescaling(_values(spec, "scale", 1.0), _values(spec, "offset", 0.0))


def _size(spec: LayerSpec) -> tuple[int, int]:
    return sizes(spec, "height", 1)[0], sizes(spec, "width", 1)[0]


def _resizing(spec: LayerSpec) -> nn.Module:
    for key in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if flag(spec, key, False):
            raise refuse(f"{key}=True, which is not ported")
    kind = text(spec, "interpolation", "bilinear", "bilinear", "nearest")
    return Resizing(_size(spec), kind, channels_last(spec))


def _left_out(name: str) -> Builder:
    return lambda spec: LeftOut(name)


AUGMENTATIONS = (
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "RandomContrast",
    "RandomBrightness",
    "RandomSaturation",
    "RandomHue",
    "RandomSharpness",
    "RandomColorJitter",
    "RandomColorDegeneration",
    "RandomGrayscale",
    "RandomShear",
    "RandomPerspective",
    "RandomGaussianBlur",
    "RandomErasing",
    "RandomInvert",
    "RandomPosterization",
    "MixUp",
    "CutMix",
    "RandAugment",
    "AugMix",
)

BUILDERS: dict[str, Builder] = {
    "Rescaling": _rescaling,
    "Resizing": _resizing,
    "CenterCrop": lambda spec: CenterCrop(_size(spec), channels_last(spec)),
    **{name: _left_out(name) for name in AUGMENTATIONS},
}
