"""Layers that make images fit: rescaling, resizing, cropping.  Augmentation is left out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import (
    array,
    channels_last,
    flag,
    number,
    refuse,
    sizes,
    text,
)
from tfcompat_dw.porting.layers.resizing import METHODS, resize


def _as_number(x: Tensor) -> Tensor:
    """Integers in PyTorch's default type."""
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


class Rescaling(nn.Module):
    """``keras.layers.Rescaling``: ``x * scale + offset``; numbers, or one for each channel."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Floating-point numbers, whatever came in."""
        x = _as_number(x)
        return x * self.scale.to(x.dtype) + self.offset.to(x.dtype)

    def extra_repr(self) -> str:
        """Scale and offset."""
        return ", ".join(f"{name}={_shown(getattr(self, name))}" for name in ("scale", "offset"))


def _shown(values: Tensor) -> str:
    if values.is_meta:
        return f"{tuple(values.shape)}"
    if values.dim() == 0:
        return f"{values.item():.6g}"
    return "[" + ", ".join(f"{value:.6g}" for value in values.flatten().tolist()[:8]) + "]"


class _ToSize(nn.Module):
    """Images of any size to rows and columns."""

    def __init__(self, size: tuple[int, int], is_last: bool) -> None:
        super().__init__()
        self.size, self.is_last = size, is_last

    def forward(self, x: Tensor) -> Tensor:
        """One image or a batch."""
        images = x.unsqueeze(0) if x.dim() == 3 else x
        images = images if self.is_last else images.permute(0, 2, 3, 1)
        images = self._fitted(images)
        images = images if self.is_last else images.permute(0, 3, 1, 2)
        return images.squeeze(0) if x.dim() == 3 else images

    def _fitted(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.size}" + ", data_format='channels_first'" * (not self.is_last)


class Resizing(_ToSize):
    """``keras.layers.Resizing``: integers stay integers, rounded and cut to their range."""

    def __init__(
        self,
        size: tuple[int, int],
        is_last: bool,
        interpolation: str = "bilinear",
        *,
        antialias: bool = False,
        crop: bool = False,
        pad: bool = False,
        fill_value: float = 0.0,
    ) -> None:
        super().__init__(size, is_last)
        self.interpolation, self.antialias = interpolation, antialias
        self.crop, self.pad, self.fill_value = crop, pad, fill_value

    def _fitted(self, images: Tensor) -> Tensor:
        if self.crop:
            images = _cropped_to_ratio(images, self.size)
        if self.pad:
            images = _padded_to_ratio(images, self.size, self.fill_value)
        return resize(images, self.size, self.interpolation, self.antialias)

    def extra_repr(self) -> str:
        """The size, the method, then what is not at its default."""
        shown = [super().extra_repr(), self.interpolation]
        shown += ["antialias=True"] * self.antialias
        shown += ["crop_to_aspect_ratio=True"] * self.crop
        return ", ".join(shown + ["pad_to_aspect_ratio=True"] * self.pad)


def _cropped_to_ratio(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest part in the middle that has the ratio of ``size``."""
    height, width = x.shape[1:3]
    rows = max(min(height, width * size[0] // size[1]), 1)
    columns = max(min(width, height * size[1] // size[0]), 1)
    return x.narrow(1, (height - rows) // 2, rows).narrow(2, (width - columns) // 2, columns)


def _padded_to_ratio(x: Tensor, size: tuple[int, int], value: float) -> Tensor:
    """With a border on two sides, so that it has the ratio of ``size``, or nearly."""
    height, width = x.shape[1:3]
    rows = (max(height, width * size[0] // size[1]) - height) // 2
    columns = (max(width, height * size[1] // size[0]) - width) // 2
    return nn.functional.pad(x, [0, 0, columns, columns, rows, rows], value=value)


class CenterCrop(_ToSize):
    """``keras.layers.CenterCrop``: the middle of larger images; others are cut and resized."""

    def _fitted(self, images: Tensor) -> Tensor:
        images = _as_number(images)
        spare = [n - wanted for n, wanted in zip(images.shape[1:3], self.size, strict=True)]
        if min(spare) < 0:
            return resize(_cropped_to_ratio(images, self.size), self.size, "bilinear")
        for axis, (wanted, left) in enumerate(zip(self.size, spare, strict=True)):
            images = images.narrow(axis + 1, left // 2, wanted)
        return images


class RandomCrop(_ToSize):
    """``keras.layers.RandomCrop`` of Keras 2 in inference: as much of the middle as fits, resized.

    In training, too: crop the data where you load them.  That of Keras 3 does nothing in inference.
    """

    def _fitted(self, images: Tensor) -> Tensor:
        images = _cropped_to_ratio(_as_number(images), self.size)
        return resize(images, self.size, "bilinear")


class LeftOut(nn.Module):
    """An augmentation of Keras, which does nothing in inference.

    In training it does nothing here, either: augment the data where you load them.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """The images, integers as numbers."""
        return _as_number(x)

    def extra_repr(self) -> str:
        """Its class, and that it is none."""
        return f"{self.name}: does nothing, in training either"


# ---- builders ------------------------------------------------------------------------------------


def _values(spec: LayerSpec, key: str, default: float | None) -> Tensor:
    value: Any = array(spec.config.get(key))
    value = default if value is None else value
    try:
        values = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise refuse(f"{key}={value!r}, where a number or one for each channel is expected") from (
            error
        )
    return values


def _rescaling(spec: LayerSpec) -> nn.Module:
    return Rescaling(_values(spec, "scale", None), _values(spec, "offset", 0.0))


def _size(spec: LayerSpec) -> tuple[int, int]:
    return sizes(spec, "height", 1)[0], sizes(spec, "width", 1)[0]


def _resizing(spec: LayerSpec) -> nn.Module:
    text(spec, "fill_mode", "constant", "constant")
    crop = flag(spec, "crop_to_aspect_ratio", False)
    pad = flag(spec, "pad_to_aspect_ratio", False)
    if crop and pad:
        raise refuse("both crop_to_aspect_ratio and pad_to_aspect_ratio, of which one is expected")
    return Resizing(
        _size(spec),
        channels_last(spec),
        text(spec, "interpolation", "bilinear", *METHODS),
        antialias=flag(spec, "antialias", False),
        crop=crop,
        pad=pad,
        fill_value=number(spec, "fill_value", 0.0),
    )


def _random_crop(spec: LayerSpec) -> nn.Module:
    if spec.keras_major == 3:
        return LeftOut(spec.class_name)
    return RandomCrop(_size(spec), channels_last(spec))


def _left_out(name: str) -> Builder:
    return lambda spec: LeftOut(name)


AUGMENTATIONS = (
    "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast",
    "RandomBrightness", "RandomHeight", "RandomWidth", "RandomSaturation", "RandomHue",
    "RandomSharpness", "RandomColorJitter", "RandomColorDegeneration", "RandomGrayscale",
    "RandomShear", "RandomPerspective", "RandomGaussianBlur", "RandomErasing", "RandomInvert",
    "RandomPosterization", "RandomElasticTransform", "MixUp", "CutMix", "RandAugment", "AugMix",
)  # fmt: skip

BUILDERS: dict[str, Builder] = {
    "Rescaling": _rescaling,
    "Resizing": _resizing,
    "CenterCrop": lambda spec: CenterCrop(_size(spec), channels_last(spec)),
    "RandomCrop": _random_crop,
    **{name: _left_out(name) for name in AUGMENTATIONS},
}
