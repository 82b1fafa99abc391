"""The window arithmetic against counting."""

from __future__ import annotations

import itertools

import brute_force
import pytest
import torch

from tfcompat_dw.padding import Window, output_size, same_padding

SMALL = list(itertools.product(range(1, 10), range(1, 6), range(1, 5), range(1, 4)))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "expected"),
    [
        (5, 3, 1, 1, (1, 1)),
        (5, 3, 2, 1, (1, 1)),
        (6, 3, 2, 1, (0, 1)),  # the odd one goes after
        (6, 2, 1, 1, (0, 1)),
        (2, 5, 1, 1, (2, 2)),  # kernel larger than the input
        (2, 4, 1, 1, (1, 2)),
        (7, 2, 3, 1, (0, 1)),
        (8, 2, 3, 1, (0, 0)),  # the stride steps over inputs
        (7, 3, 1, 2, (2, 2)),
        (7, 2, 1, 3, (1, 2)),
        (1, 1, 5, 9, (0, 0)),
    ],
)
def test_same_padding_is_tensorflows(size, kernel, stride, dilation, expected):
    assert same_padding(size, kernel, stride, dilation) == expected


def test_same_padding_is_the_least_that_gives_an_output_for_every_stride():
    for size, kernel, stride, dilation in SMALL:
        expected = brute_force.same(size, kernel, stride, dilation)
        assert same_padding(size, kernel, stride, dilation) == expected


def test_same_padding_of_nothing_gives_no_output():
    for _, kernel, stride, dilation in SMALL:
        before, after = same_padding(0, kernel, stride, dilation)
        assert before >= 0
        assert after >= 0
        assert output_size(0, kernel, stride, dilation, before, after) == 0


def test_output_size_is_the_number_of_windows_that_fit():
    for size, kernel, stride, dilation in SMALL:
        for before, after in itertools.product(range(3), range(3)):
            if (kernel - 1) * dilation + 1 <= before + size + after:
                counted = brute_force.plain(size, kernel, stride, dilation, before, after).outputs
                assert output_size(size, kernel, stride, dilation, before, after) == counted


def test_arithmetic_is_exact_beyond_32_bits():
    assert same_padding(2**40 + 1, 3, 2, 1) == (1, 1)
    assert output_size(2**40, 3, 1, 2**31 - 1, 0, 0) == 2**40 - 2**32 + 2


def test_same_padding_puts_no_condition_on_a_traced_size():
    class Pads(torch.nn.Module):
        def forward(self, image):
            return same_padding(image.shape[0], 5, 2, 3)

    # Export refuses a named size that was constrained to less than its range.
    size = torch.export.Dim("size", min=1, max=2**31)
    for strict in (False, True):
        exported = torch.export.export(
            Pads(), (torch.zeros(9),), dynamic_shapes=({0: size},), strict=strict
        ).module()
        for actual in (1, 2, 8, 13, 14):
            assert tuple(exported(torch.zeros(actual))) == same_padding(actual, 5, 2, 3)


@pytest.mark.parametrize("channels_last", [True, False])
def test_window_is_the_tail_of_an_operator_call(channels_last):
    window = Window.resolve("SAME", (6, 7), (3, 5), (2, 1), (1, 2), channels_last)
    assert tuple(window) == ((2, 1), (0, 1, 4, 4), (1, 2), channels_last)
    assert window.output_size((6, 7), (3, 5)) == (3, 7)
    assert window.rows_and_columns((1, 2, 3, 4)) == ((2, 3) if channels_last else (3, 4))
    assert Window.resolve("VALID", (6, 7), (3, 5), (1, 1), (1, 1), True).padding == (0, 0, 0, 0)
    explicit = Window.resolve((1, 2, 3, 4), (6, 7), (3, 5), (1, 1), (1, 1), True)
    assert explicit.padding == (1, 2, 3, 4)
