"""Where a port and its original part, and what the difference looks like."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tfcompat_dw.porting.compare import Integers, compare, error_of, likely_cause
from tfcompat_dw.porting.report import layers_to_show, page

GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.normal(size=(2, 9, 8, 6)).astype("f4")


def convolved(pads: tuple[int, int, int, int], stride: int = 1) -> np.ndarray:
    """A 3 x 3 depthwise convolution with (left, right, top, bottom) of padding."""
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=(6, 1, 3, 3)).astype("f4"))
    x = F.pad(torch.from_numpy(IMAGE).permute(0, 3, 1, 2), pads)
    return F.conv2d(x, weight, stride=stride, groups=6).permute(0, 2, 3, 1).numpy()


def normalized(epsilon: float) -> np.ndarray:
    return (IMAGE - 0.3) / np.sqrt(0.01 * np.arange(1, 7, dtype="f4") + epsilon)


EDGE = F.pad(torch.from_numpy(IMAGE).permute(0, 3, 1, 2), (1, 1, 1, 1), mode="reflect")
REFLECTED = (
    F.conv2d(
        EDGE,
        torch.from_numpy(np.random.default_rng(1).normal(size=(6, 1, 3, 3)).astype("f4")),
        groups=6,
    )
    .permute(0, 2, 3, 1)
    .numpy()
)

MISTAKES: dict[str, tuple[Any, Any, str]] = {
    "epsilon": (normalized(1e-5), normalized(1e-3), "epsilon or statistics"),
    "no bias": (IMAGE, IMAGE + np.arange(6, dtype="f4"), "a bias, or a mean"),
    "padding on the other side, strided": (
        convolved((1, 0, 1, 0), 2),
        convolved((0, 1, 0, 1), 2),
        "without a pattern",
    ),
    "padding on the other side": (
        convolved((2, 0, 2, 0)),
        convolved((1, 1, 1, 1)),
        "shifted by 1 rows and 1 columns",
    ),
    "reflected instead of zero padding": (
        REFLECTED,
        convolved((1, 1, 1, 1)),
        "only the border differs (first rows, last rows, first columns, last columns)",
    ),
    "VALID instead of SAME": (
        convolved((0, 0, 0, 0)),
        convolved((1, 1, 1, 1)),
        "another padding or stride: (2, 7, 6, 6) instead of (2, 9, 8, 6)",
    ),
    "channels in another order": (
        IMAGE[..., [1, 0, 2, 3, 5, 4]],
        IMAGE,
        "another order of channels",
    ),
    "flattened in another order": (
        IMAGE.transpose(0, 3, 1, 2).reshape(2, -1),
        IMAGE.reshape(2, -1),
        "Flatten or Reshape",
    ),
    "ReLU instead of ReLU6": (
        np.maximum(IMAGE * 6, 0),
        np.clip(IMAGE * 6, 0, 6),
        "the original is 6 where they differ: an activation that clips",
    ),
    "no ReLU": (IMAGE, np.maximum(IMAGE, 0), "an activation that clips"),
    "another slope": (
        np.where(IMAGE < 0, 0.3 * IMAGE, IMAGE),
        np.where(IMAGE < 0, 0.2 * IMAGE, IMAGE),
        "the slope of an activation",
    ),
    "a NaN": (np.where(IMAGE > 2, np.nan, IMAGE), IMAGE, "only the port has NaNs"),
    "NCHW": (
        IMAGE.transpose(0, 3, 1, 2),
        IMAGE,
        "the axes are in another order: (2, 6, 9, 8) instead of (2, 9, 8, 6)",
    ),
    "a comparison": (IMAGE > 0, IMAGE > 0.5, "without a pattern"),
    "a conjugate": (IMAGE - 1j * IMAGE, IMAGE + 1j * IMAGE, "every channel is scaled (by -1 to 1)"),
    "other weights": (GENERATOR.normal(size=IMAGE.shape), IMAGE, "100% of the values differ"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_by_what_it_looks_like(name: str) -> None:
    ours, theirs, text = MISTAKES[name]
    assert text in likely_cause(ours, theirs)


def test_the_first_diverging_layer_in_the_order_of_the_original_is_named() -> None:
    original = {"a": IMAGE, "b": IMAGE * 2, "pad": IMAGE, "c": IMAGE * 3}
    port = {"c": IMAGE * 4, "b": IMAGE * 2 + np.float32(1), "a": IMAGE * np.float32(1 + 1e-6)}
    found = compare(port, original)
    assert not found.agrees
    assert found.first is not None
    assert found.first.name == "b"
    assert found.only_original == ("pad",)
    assert [layer.name for layer in found.layers] == ["a", "b", "c"]
    assert compare({"a": IMAGE}, original).agrees


INTEGERS = Integers(0.5, -64.0, 63.5)
"""int8 with a step of 0.5."""


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees"),
    [
        ([0.24, 1.26], [0.0, 1.5], True),
        ([2.0, 1.5], [0.0, 1.5], True),
        ([2.1, 1.5], [0.0, 1.5], False),
        ([1000.0, -1000.0], [63.5, -64.0], True),
        ([1000.0, -1000.0], [61.0, -64.0], False),
    ],
)
def test_a_layer_of_integers_agrees_to_four_steps_within_their_range(
    ours: list[float], theirs: list[float], agrees: bool
) -> None:
    port, original = {"a": np.array(ours)}, {"a": np.array(theirs)}
    assert compare(port, original, integers={"a": INTEGERS}).agrees == agrees
    assert not compare(port, original).agrees


def test_the_nearest_integers_are_those_of_the_range() -> None:
    values = np.array([0.24, 0.26, -0.6, 1e9, -1e9], "f4")
    assert INTEGERS.nearest(values).tolist() == [0.0, 0.5, -0.5, 63.5, -64.0]


def test_networks_without_a_common_layer_are_no_agreement() -> None:
    with pytest.raises(ValueError, match="no layer of the same name"):
        compare({"a": IMAGE}, {"b": IMAGE})


@pytest.mark.parametrize(
    ("ours", "theirs", "relative"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([0.0], [0.0], 0.0),
        ([1.0], [0.0], np.inf),
        ([np.nan, np.inf], [np.nan, np.inf], 0.0),
        ([np.nan], [1.0], np.inf),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        ([1.0, 2.0], [1.0], np.inf),
        ([], [], 0.0),
        ([1 + 2j, 4j], [1 + 2j, 4j], 0.0),
        ([1 + 2j, 4j], [1 + 3j, 4j], 0.25),
    ],
)
def test_relative_error_is_the_largest_difference_over_the_largest_value(
    ours: list[complex], theirs: list[complex], relative: float
) -> None:
    assert error_of("layer", np.array(ours), np.array(theirs)).relative == relative


class Tags(HTMLParser):
    """Which elements a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.add(tag)


def test_page_escapes_names_and_shows_the_first_diverging_layer() -> None:
    name = "<script>alert(1)</script>\"'&"
    original = {"fine": IMAGE, name: IMAGE, "last": IMAGE}
    port = {"fine": IMAGE, name: IMAGE * 2, "last": IMAGE * 2}
    comparison = compare(port, original)
    text = page(comparison, port, original, title=name, facts={name: name})
    tags = Tags()
    tags.feed(text)
    assert "script" not in tags.found
    assert {"svg", "circle", "img", "table"} <= tags.found
    assert "every channel is scaled" in text
    assert name in [layer.name for layer in layers_to_show(comparison, original)]
