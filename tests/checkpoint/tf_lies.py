"""Checkpoints whose checksums are right and whose contents lie.

``BUNDLES`` and ``TABLES``: by what is wrong, a function that writes it and a part of the message.
"""

from __future__ import annotations

import struct

from tf_tables import (
    FLOAT,
    INT32,
    STRING,
    block,
    bundle_entry,
    entry,
    header,
    masked_crc,
    message,
    shape,
    table,
    varint,
    write_bundle,
)

from tfcompat_dw.checkpoint.slices import TensorSlice

BOOL, RESOURCE, HALF, INT8 = 10, 20, 19, 6
FOUR = struct.pack("<4f", 1, 2, 3, 4)
GOOD = bundle_entry(FOUR, 4)
HEAD = (b"", header())


def index(data):
    """A bundle with this index, and a data file of four numbers."""

    def write(folder):
        (folder / "lie.index").write_bytes(data)
        (folder / "lie.data-00000-of-00001").write_bytes(FOUR)
        return folder / "lie"

    return write


def bundle(data=FOUR, head=None, **entries):
    """A bundle of these entries."""

    def write(folder):
        encoded = {name.encode(): value for name, value in entries.items()}
        return write_bundle(folder / "lie", encoded, data, **(head or {}))

    return write


def raw_shape(*sizes, **fields):
    """An entry of four numbers that says it has another shape."""
    return bundle_entry(FOUR, *sizes, **fields)


def parts(*slices, sizes=(4,), dtype=FLOAT, drop=()):
    """Entries of a tensor in slices, two numbers each."""
    protos = [{"extent": [{"start": s, "length": n} for s, n in part]} for part in slices]
    whole = bundle_entry(b"", *sizes, slices=protos)
    entries = {b"w": whole}
    for number, part in enumerate(slices):
        lengths = [n for _, n in part]
        data = FOUR[8 * number :][:8]
        key = TensorSlice(tuple(part)).key(b"w")
        if number not in drop:
            entries[key] = bundle_entry(data, *lengths, offset=8 * number, dtype=dtype)
    return lambda folder: write_bundle(folder / "lie", entries, FOUR)


def strings(data, count, **fields):
    """An entry of strings with whatever bytes; its own checksum is never reached."""
    return bundle(data, w=bundle_entry(data, count, dtype=STRING, **fields))


def string_data(*texts):
    lengths = b"".join(varint(len(text)) for text in texts)
    numbers = b"".join(struct.pack("<I", len(text)) for text in texts)
    return lengths + struct.pack("<I", masked_crc(numbers)) + b"".join(texts)


def sharing_keys():
    """A long key, and many short entries that share it."""
    first = entry(b"a" * 2000, GOOD)
    rest = b"".join(
        varint(2000) + varint(2) + varint(0) + struct.pack(">H", n) for n in range(3000)
    )
    return table([[HEAD], block(first + rest)], last_keys=[b"", b"b"])


BUNDLES = {
    "keys that descend": (
        index(table([[HEAD, (b"b", GOOD), (b"a", GOOD)]], last_keys=[b"c"])),
        "do not ascend",
    ),
    "a key twice": (index(table([[HEAD, (b"a", GOOD), (b"a", GOOD)]])), "do not ascend"),
    "a key twice, in two blocks": (
        index(table([[HEAD, (b"a", GOOD)], [(b"a", GOOD)]], last_keys=[b"a", b"b"])),
        "belong before",
    ),
    "a key behind its block": (
        index(table([[HEAD, (b"c", GOOD)], [(b"d", GOOD)]], last_keys=[b"b", b"d"])),
        "belong behind",
    ),
    "blocks that descend": (
        index(table([[HEAD, (b"c", GOOD)], [(b"b", GOOD)]], last_keys=[b"c", b"b"])),
        "do not ascend",
    ),
    "a block twice": (
        index(table([[HEAD], [(b"a", GOOD)]], handles=[(0, 19), (0, 19)])),
        "overlap",
    ),
    "a block behind the end": (index(table([[HEAD]], handles=[(10**6, 5)])), "overlap"),
    "a block of 2**63 bytes": (index(table([[HEAD]], handles=[(0, 2**63)])), "overlap"),
    "a block address cut short": (
        index(table([[HEAD]], handles=[b"\x00\xff"])),
        "address is cut short",
    ),
    "no restarts": (index(table([struct.pack("<I", 0)], last_keys=[b"x"])), "restarts"),
    "more restarts than bytes": (
        index(table([struct.pack("<I", 2**32 - 1)], last_keys=[b"x"])),
        "restarts",
    ),
    "a block of no bytes": (index(table([b""], last_keys=[b"x"])), "restarts"),
    "a shared key that is not there": (
        index(table([block(varint(5) + varint(0) + varint(0))], last_keys=[b"x"])),
        "longer than its block",
    ),
    "a value longer than its block": (
        index(table([block(varint(0) + varint(0) + varint(2**40))], last_keys=[b"x"])),
        "longer than its block",
    ),
    "an entry cut short": (index(table([block(b"\x00\xff")], last_keys=[b"x"])), "cut short"),
    "a varint without end": (
        index(table([block(b"\xff" * 40)], last_keys=[b"x"])),
        "cut short",
    ),
    "keys that share more than they hold": (index(sharing_keys()), "keys longer than"),
    "Snappy": (index(table([[HEAD]], compression=1)), "Snappy"),
    "unknown compression": (index(table([[HEAD]], compression=7)), "unknown kind 7"),
    "no header": (index(table([[(b"a", GOOD)]])), "no header"),
    "no entries": (index(table([])), "no header"),
    "a header of noise": (index(table([[(b"", b"\xff\xff")]])), "BundleHeaderProto"),
    "an entry of noise": (index(table([[HEAD, (b"a", b"\x0a\xff")]])), "BundleEntryProto"),
    "a key that is no UTF-8": (index(table([[HEAD, (b"\xff", GOOD)]])), "UTF-8"),
    "big-endian": (bundle(head={"endianness": 1}, w=GOOD), "big-endian"),
    "a newer version": (bundle(head={"version": {"min_consumer": 2}}, w=GOOD), "newer"),
    "a version called bad": (bundle(head={"version": {"bad_consumers": [1]}}, w=GOOD), "newer"),
    "no shards": (bundle(head={"num_shards": 0}, w=GOOD), "shard 0 of 0"),
    "less than no shards": (bundle(head={"num_shards": -1}, w=GOOD), "shard 0 of -1"),
    "a shard too many": (bundle(w=bundle_entry(FOUR, 4, shard_id=1)), "shard 1 of 1"),
    "a shard below the first": (bundle(w=bundle_entry(FOUR, 4, shard_id=-1)), "shard -1 of 1"),
    "a shard that is missing": (
        bundle(head={"num_shards": 2**31 - 1}, w=bundle_entry(FOUR, 4, shard_id=2**31 - 2)),
        "no such file",
    ),
    "a negative size": (bundle(w=raw_shape(-4)), "not known"),
    "two negative sizes": (bundle(w=raw_shape(-2, -2)), "not known"),
    "2**62 numbers": (bundle(w=raw_shape(2**62)), "more bytes than"),
    "2**124 numbers": (bundle(w=raw_shape(2**62, 2**62)), "more bytes than"),
    "2**124 numbers of none": (bundle(w=raw_shape(0, 2**62, 2**62)), "more bytes than"),
    "2**40 numbers": (bundle(w=raw_shape(2**40)), "16 bytes for"),
    "2**40 numbers and bytes": (bundle(w=raw_shape(2**40, size=2**42)), "are asked for"),
    "65 dimensions": (bundle(w=raw_shape(4, *[1] * 64)), "64 dimensions"),
    "an unknown rank": (
        bundle(w=bundle_entry(FOUR, shape=message("TensorShapeProto", unknown_rank=True))),
        "not known",
    ),
    "an offset before the file": (bundle(w=bundle_entry(FOUR, 4, offset=-4)), "no bytes at all"),
    "an offset behind the file": (bundle(w=bundle_entry(FOUR, 4, offset=4)), "are asked for"),
    "an offset of 2**63 - 1": (bundle(w=bundle_entry(FOUR, 4, offset=2**63 - 1)), "asked for"),
    "a size below nothing": (bundle(w=bundle_entry(FOUR, 4, size=-16)), "no bytes at all"),
    "another checksum": (bundle(w=bundle_entry(FOUR, 4, crc32c=1)), "checksum"),
    "tensors that overlap": (
        bundle(v=GOOD, w=bundle_entry(FOUR[4:12], 2, offset=4)),
        "another tensor's",
    ),
    "a bool of 2": (
        bundle(b"\1\2", w=bundle_entry(b"\1\2", 2, dtype=BOOL)),
        "neither true nor false",
    ),
    "a resource": (bundle(w=bundle_entry(FOUR, 4, dtype=RESOURCE)), "type resource"),
    "an unknown type": (bundle(w=bundle_entry(FOUR, 4, dtype=77)), "type 77"),
    "no type": (bundle(w=bundle_entry(FOUR, 4, dtype=0)), "type 0"),
    "more strings than bytes": (strings(b"\0" * 9, 2**40), "9 bytes for"),
    "lengths cut short": (strings(b"\xff" * 4, 4), "cut short"),
    "a length of 2**64 - 1": (strings(varint(2**64 - 1) + b"1234", 1), "strings of 1844"),
    "lengths that overflow together": (
        strings(varint(2**63) * 2 + b"1234", 2),
        "strings of 1844",
    ),
    "bytes behind the strings": (strings(string_data(b"ab") + b"c", 1), "strings of 2"),
    "strings without checksums": (strings(b"\x01\0\0\0\0a", 1), "checksum"),
    "another checksum of lengths": (
        strings(b"\x01\0\0\0\0a", 1, crc32c=masked_crc(b"\x01\0\0\0" + b"\0\0\0\0" + b"a")),
        "checksum",
    ),
    "another checksum of strings": (strings(string_data(b"a"), 1, crc32c=5), "checksum"),
    "a missing slice": (parts([(0, 2)], [(2, 2)], drop=[1]), "missing, or listed twice"),
    "a slice twice": (parts([(0, 2)], [(0, 2)]), "missing, or listed twice"),
    "slices with a gap": (parts([(0, 2)]), "some are missing"),
    "slices that overlap": (parts([(0, 2)], [(1, 2)]), "slices that overlap"),
    "a slice outside": (parts([(0, 2)], [(3, 2)]), "not within"),
    "a slice before": (parts([(-1, 2)], [(2, 2)]), "not within"),
    "a slice of 2**63 - 1": (parts([(2**63 - 1, 2)]), "not within"),
    "a slice of another rank": (parts([(0, 2), (0, 1)]), "not within"),
    "a slice of another type": (parts([(0, 2)], [(2, 2)], dtype=INT32), "instead of"),
    "2**59 numbers in slices": (parts([(0, 2)], [(2, 2)], sizes=(2**58,)), "are missing"),
}


def saved(slice_data, *, name=b"w", stored_name=b"w", type=FLOAT, sizes=(4,), slices=None):
    """A file of format V1 with one tensor, in one piece."""
    whole = [{"extent": [{} for _ in sizes]}]
    listed = {"name": name, "shape": shape(*sizes), "type": type, "slice": slices or whole}
    meta = message("SavedTensorSlices", meta={"tensor": [listed]}).SerializeToString()
    value = message("SavedTensorSlices", data={"name": stored_name, "data": slice_data})
    key = TensorSlice(((0, -1),) * len(sizes)).key(b"w")
    return v1([(b"", meta), (key, value.SerializeToString())])


def v1(entries):
    def write(folder):
        (folder / "lie").write_bytes(table([entries]))
        return folder / "lie"

    return write


def meta(*tensors, **fields):
    made = message("SavedTensorSlices", meta={"tensor": tensors, **fields})
    return v1([(b"", made.SerializeToString())])


ONE = {"name": b"w", "shape": shape(4), "type": FLOAT}
TABLES = {
    "no list": (v1([(b"a", b"")]), "without a list"),
    "a list of noise": (v1([(b"", b"\xff\xff")]), "SavedTensorSlices"),
    "a newer version": (meta(versions={"min_consumer": 2}), "newer"),
    "a name that is no UTF-8": (meta({**ONE, "name": b"\xff"}), "UTF-8"),
    "no slices": (meta(ONE), "more than the file holds"),
    "a slice that is not there": (meta({**ONE, "slice": [{"extent": [{}]}]}), "not in the file"),
    "a slice twice": (meta({**ONE, "slice": [{"extent": [{}]}] * 2}), "two slices"),
    "a tensor twice, with another shape": (meta(ONE, {**ONE, "shape": shape(5)}), "listed as"),
    "a negative size": (meta({**ONE, "shape": shape(-1)}), "not known"),
    "2**40 numbers": (saved({"float_val": [1.0] * 4}, sizes=(2**40,)), "more than the file holds"),
    "2**62 numbers": (saved({"float_val": [1.0] * 4}, sizes=(2**62,)), "more bytes than"),
    "too few numbers": (saved({"float_val": [1.0] * 3}), "3 values instead of 4"),
    "too many numbers": (saved({"float_val": [1.0] * 5}), "5 values instead of 4"),
    "numbers of another type": (saved({"double_val": [1.0] * 4}), "0 values instead of 4"),
    "half as many complex numbers": (saved({"scomplex_val": [1.0] * 4}, type=8), "4 values"),
    "the slice of another tensor": (saved({"float_val": [1.0] * 4}, stored_name=b"v"), "another"),
    "int8 of 1000": (saved({"int_val": [0, 1, 2, 1000]}, type=INT8), "no int8"),
    "float16 of 17 bits": (saved({"half_val": [0, 1, 2, 2**16]}, type=HALF), "no float16"),
    "a resource": (saved({"float_val": [1.0] * 4}, type=RESOURCE), "type resource"),
    "too few strings": (saved({"string_val": [b"long text"]}, type=STRING), "1 values"),
    "no table at all": (lambda folder: _noise(folder), "known kind"),
}


def _noise(folder):
    (folder / "lie").write_bytes(b"noise" * 100)
    return folder / "lie"
