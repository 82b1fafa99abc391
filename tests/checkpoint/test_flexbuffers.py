"""Options of custom operators: what ``flatbuffers``' own package wrote is read, damage refused."""

from __future__ import annotations

import contextlib
import struct

import pytest
from flatbuffers import flexbuffers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfcompat_dw.checkpoint.flexbuffers import MOST_VALUES, read

QUICK = settings(
    max_examples=150, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
TEXT = st.text(st.characters(blacklist_categories=("Cs",), min_codepoint=1), max_size=5)
KEYS = st.text("abc_0", min_size=1, max_size=5)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), TEXT, st.binary(max_size=5),
    st.floats(width=32, allow_nan=False),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@QUICK
@given(VALUES)
def test_what_the_package_writes_is_read(value):
    assert read(bytes(flexbuffers.Dumps(value))) == value


def test_numbers_that_lie_elsewhere_and_rows_of_a_fixed_size_are_read():
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.IndirectFloat("far", 0.1)
        builder.IndirectInt("whole", 2**40)
        builder.Key("row")
        builder.TypedVectorFromElements([1, 2, 300])
        builder.Key("pair")
        builder.FixedTypedVectorFromElements([1.5, 2.5])
    found = read(bytes(builder.Finish()))
    assert found == {"far": 0.1, "whole": 2**40, "row": [1, 2, 300], "pair": [1.5, 2.5]}


@QUICK
@given(VALUES, st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=3),
       st.integers(0, 2**16))  # fmt: skip
def test_damage_is_refused_or_gives_another_value(value, changes, length):
    data = bytearray(flexbuffers.Dumps(value))
    for place, byte in changes:
        data[place % len(data)] = byte
    with contextlib.suppress(ValueError):
        read(bytes(data[: 1 + length % len(data)]))


@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"\0\x28\x01", b"\xff\x24\x01", b"\1\xff\xff"])
def test_bytes_that_are_none_are_refused(data):
    with pytest.raises(ValueError, match=r"few bytes|a number|a value|without an end|more values"):
        read(data)


def test_values_that_hold_themselves_are_not_followed_for_ever():
    size, itself, types, root = [2], [0, 1], [0x28, 0x28], [4, 0x28, 1]
    with pytest.raises(ValueError, match="more values, or deeper ones"):
        read(bytes([*size, *itself, *types, *root]))


def test_texts_that_share_their_bytes_are_not_more_than_the_file():
    """1,000 keys, each of which begins a byte later in the same 100 kB."""
    data = bytearray(b"a" * 100_000 + bytes(4))
    data += struct.pack("<I", 1000)
    first = len(data)
    for number in range(1000):
        data += struct.pack("<I", first + 4 * number - number)
    data += bytes([4 << 2]) * 1000
    data += struct.pack("<I", len(data) - first) + bytes([10 << 2 | 2, 4])
    with pytest.raises(ValueError, match="more text than options have"):
        read(bytes(data))


def test_a_row_of_more_numbers_than_options_have_is_refused():
    row = struct.pack("<I", MOST_VALUES + 1) + bytes(4 * (MOST_VALUES + 1))
    with pytest.raises(ValueError, match="more values"):
        read(row + struct.pack("<I", len(row) - 4) + b"\x32\x04")
