"""Arrays for tests of single operations, drawn by hypothesis: small, their numbers by a seed."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def shapes(least=0, most=4, low=1, high=4):
    return st.lists(st.integers(low, high), min_size=least, max_size=most).map(tuple)


def seeds():
    return st.integers(0, 2**31 - 1)


def floats(seed, shape, low=-3.0, high=3.0, dtype=np.float32):
    """Numbers none of which is at a jump of a function by chance."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


def integers(seed, shape, low=-9, high=9, dtype=np.int32):
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)


def numbers(draw, shape, kinds="fi", low=-3.0, high=3.0):
    """Floats (f), doubles (d), int32 (i), int64 (l) or booleans (b)."""
    seed, kind = draw(seeds()), draw(st.sampled_from(kinds))
    if kind == "b":
        return integers(seed, shape, 0, 1, np.bool_)
    if kind in "il":
        return integers(
            seed, shape, int(low * 3), int(high * 3), {"i": np.int32, "l": np.int64}[kind]
        )
    return floats(seed, shape, low, high, {"f": np.float32, "d": np.float64}[kind])


def broadcast_pair(draw, kinds="fi", low=-3.0, high=3.0):
    """Two shapes that fit, of any rank each."""
    shape = draw(shapes())
    cut = shape[draw(st.integers(0, len(shape))) :]
    other = tuple(1 if draw(st.booleans()) else size for size in cut)
    kind = draw(st.sampled_from(kinds))
    pair = [numbers(draw, shape, kind, low, high), numbers(draw, other, kind, low, high)]
    return pair if draw(st.booleans()) else pair[::-1]


def i32(*values):
    return np.array(values, np.int32)


def scalar(value, dtype=np.int32):
    return np.array(value, dtype)


def axes_of(draw, rank, empty=True):
    """Some axes, from either end, or a scalar."""
    chosen = draw(st.sets(st.integers(0, rank - 1), min_size=0 if empty else 1)) if rank else set()
    chosen = [axis - rank if draw(st.booleans()) else axis for axis in sorted(chosen)]
    if len(chosen) == 1 and draw(st.booleans()):
        return scalar(chosen[0], draw(st.sampled_from([np.int32, np.int64])))
    return np.array(chosen, np.int32)
