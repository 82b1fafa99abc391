"""Tables and bundles made by hand: checksums are right, all else is what the test says."""

from __future__ import annotations

import struct

import google_crc32c

from tfcompat_dw.checkpoint.schemas import MESSAGES

MAGIC = 0xDB4775248B80FB57
FLOAT, INT32, STRING = 1, 3, 7


def masked_crc(data):
    crc = google_crc32c.value(bytes(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def varint(value):
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def entry(key, value, shared=0):
    return varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value


def block(entries, *, restarts=1):
    """Entries in the order given, none sharing its key; or their bytes."""
    body = entries if isinstance(entries, bytes) else b"".join(entry(*pair) for pair in entries)
    return body + bytes(4 * restarts) + struct.pack("<I", restarts)


def sealed(content, compression=0):
    content += bytes([compression])
    return content + struct.pack("<I", masked_crc(content))


def handle(offset, size):
    return varint(offset) + varint(size)


def footer(meta, index):
    handles = handle(*meta) + handle(*index)
    return handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def table(blocks, *, handles=None, last_keys=None, compression=0):
    """A file of data blocks (each a list of entries or its content), index and footer."""
    file, places, keys = b"", [], []
    for number, entries in enumerate(blocks):
        content = entries if isinstance(entries, bytes) else block(entries)
        places.append((len(file), len(content)))
        keys.append(last_keys[number] if last_keys else entries[-1][0])
        file += sealed(content, compression)
    meta = (len(file), len(block([])))
    file += sealed(block([]))
    handles = [at if isinstance(at, bytes) else handle(*at) for at in handles or places]
    index = block(list(zip(keys, handles, strict=True)))
    return file + sealed(index) + footer(meta, (len(file), len(index)))


def message(name, **fields):
    return MESSAGES[name](**fields)


def shape(*sizes):
    return message("TensorShapeProto", dim=[{"size": size} for size in sizes])


def header(**fields):
    return message("BundleHeaderProto", **{"num_shards": 1, **fields}).SerializeToString()


def bundle_entry(data=b"", *sizes, dtype=FLOAT, **fields):
    about = {"size": len(data), "crc32c": masked_crc(data), "shape": shape(*sizes), **fields}
    made = message("BundleEntryProto", dtype=dtype, **about)
    return made.SerializeToString()


def string_entry(text):
    """Data and entry of one string."""
    lengths = struct.pack("<I", len(text))
    checksum = struct.pack("<I", masked_crc(lengths))
    data = varint(len(text)) + checksum + text
    crc = masked_crc(lengths + checksum + text)
    return data, bundle_entry(data, dtype=STRING, crc32c=crc)


def write_bundle(prefix, entries, data=b"", **head):
    """Entries by name; the data file is ``data``."""
    prefix.parent.mkdir(exist_ok=True, parents=True)
    rows = [(b"", header(**head)), *sorted(entries.items())]
    prefix.with_name(prefix.name + ".index").write_bytes(table([rows]))
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)
    return prefix
