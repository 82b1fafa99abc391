"""HDF5 files that no writer writes: structures that share their parts, or lead in circles.

Each is small, and a reader that believes it takes minutes, or all memory.
"""

from __future__ import annotations

import struct

UNDEFINED = 2**64 - 1
SUPERBLOCK = 48
SYMBOL_TABLE, LINK, LINK_INFO, ATTRIBUTE = 17, 6, 2, 12


def finished(body: bytes, root: int) -> bytes:
    """With a superblock of version 2 before it."""
    numbers = struct.pack("<QQQQI", 0, UNDEFINED, SUPERBLOCK + len(body), root, 0)
    return b"\x89HDF\r\n\x1a\n\2\x08\x08\0" + numbers + body


def header(*messages: tuple[int, bytes], count: int = 0) -> bytes:
    """An object's header of version 1."""
    padded = [(kind, content + bytes(-len(content) % 8)) for kind, content in messages]
    body = b"".join(struct.pack("<HHB3x", kind, len(c), 0) + c for kind, c in padded)
    return struct.pack("<BBHIII", 1, 0, count or len(messages), 1, len(body), 0) + body


def link(name: bytes, address: int) -> tuple[int, bytes]:
    return LINK, struct.pack("<BBB", 1, 0, len(name)) + name + struct.pack("<Q", address)


def dataset(shape: tuple[int, ...], type: bytes, layout: bytes, *more: tuple[int, bytes]) -> bytes:
    space = struct.pack(f"<BBB5x{len(shape)}Q", 1, len(shape), 0, *shape)
    return header((1, space), (3, type), (8, layout), *more)


FLOAT32 = bytes.fromhex("11201f0004000000 00002000 17080017 7f000000")
TEXT = bytes.fromhex("1901000010000000 10000000010000000000080000000000")


def header_of_continuations() -> bytes:
    """Each of them is to be read, and a reader that joins them copies all before it."""
    one = struct.pack("<HHB3xQQ", 16, 16, 0, SUPERBLOCK, 8)
    body = one * (2**20 // len(one))
    return finished(struct.pack("<BBHIII", 1, 0, 65535, 1, len(body), 0) + body, SUPERBLOCK)


def groups_that_share_a_tree() -> bytes:
    """Thousands of groups times thousands of empty tables."""
    tables, groups = 30_000, 3_000
    heap = SUPERBLOCK
    body = b"HEAP" + bytes(4) + struct.pack("<QQQ", 8, UNDEFINED, heap + 32) + bytes(8)
    table = SUPERBLOCK + len(body)
    body += b"SNOD\1\0\0\0"
    tree = SUPERBLOCK + len(body)
    body += b"TREE\0\0" + struct.pack("<HQQQ", tables, UNDEFINED, UNDEFINED, 0)
    body += struct.pack("<QQ", table, 0) * tables
    group = header((SYMBOL_TABLE, struct.pack("<QQ", tree, heap)))
    first = SUPERBLOCK + len(body)
    links = [link(b"g%04d" % n, first + n * len(group)) for n in range(groups)]
    body += group * groups
    return finished(body + header(*links), SUPERBLOCK + len(body))


def tree_of_itself() -> bytes:
    """Levels of nodes, each of which lists the next one a thousand times."""
    heap = SUPERBLOCK
    body = b"HEAP" + bytes(4) + struct.pack("<QQQ", 8, UNDEFINED, heap + 32) + bytes(8)
    tree = SUPERBLOCK + len(body)
    size = 24 + 8 + 16 * 1000
    for level in range(20, -1, -1):
        child = tree + (21 - level) * size
        body += b"TREE\0" + struct.pack("<BHQQQ", level, 1000, UNDEFINED, UNDEFINED, 0)
        body += struct.pack("<QQ", child, 0) * 1000
    body += b"SNOD\1\0\0\0" + bytes(64)
    root = SUPERBLOCK + len(body)
    return finished(body + header((SYMBOL_TABLE, struct.pack("<QQ", tree, heap))), root)


def strings_that_are_one() -> bytes:
    """Thousands of references to half a megabyte."""
    count, size = 20_000, 2**19
    heap = SUPERBLOCK
    body = b"GCOL\1\0\0\0" + struct.pack("<QHHIQ", 48 + size, 1, 1, 0, size) + bytes(size + 16)
    data = SUPERBLOCK + len(body)
    body += struct.pack("<IQI", size, heap, 1) * count
    place = SUPERBLOCK + len(body)
    body += dataset((count,), TEXT, struct.pack("<BBQQ", 3, 1, data, 16 * count))
    return finished(body + header(link(b"a", place)), SUPERBLOCK + len(body))


def attribute_of_one_string() -> bytes:
    """The same in an attribute that is read when the file is opened."""
    count, size = 4_000, 2**19
    heap = SUPERBLOCK
    body = b"GCOL\1\0\0\0" + struct.pack("<QHHIQ", 48 + size, 1, 1, 0, size) + bytes(size + 16)
    space = struct.pack("<BBB5xQ", 1, 1, 0, count)
    head = struct.pack("<BBHHH", 1, 0, 16, len(TEXT), len(space))
    value = head + b"layer_names".ljust(16, b"\0") + TEXT + space
    value += struct.pack("<IQI", size, heap, 1) * count
    place = SUPERBLOCK + len(body)
    body += dataset((1,), FLOAT32, struct.pack("<BBQQ", 3, 1, place, 4))
    root = SUPERBLOCK + len(body)
    return finished(body + header((ATTRIBUTE, value), link(b"a", place)), root)


def chunks_that_are_large() -> bytes:
    """Tens of thousands of them, each a hundred times as long as the dataset needs."""
    count, chunk = 20_000, 2**20
    tree = SUPERBLOCK
    body = b"TREE\1\0" + struct.pack("<HQQ", count, UNDEFINED, UNDEFINED)
    for number in range(count):
        body += struct.pack("<IIQQQQ", 20, 0, number, 0, 0, SUPERBLOCK)
    place = SUPERBLOCK + len(body)
    layout = struct.pack("<BBBQIII", 3, 2, 3, tree, 1, chunk, 4)
    deflate = 11, struct.pack("<BB6xHHHHII", 1, 1, 1, 0, 0, 1, 6, 0)
    body += dataset((count, 1), FLOAT32, layout, deflate)
    return finished(body + header(link(b"a", place)), SUPERBLOCK + len(body))


def headers_that_share_a_part() -> bytes:
    """Thousands of objects, whose headers all go on in the same tens of thousands of messages."""
    objects, messages = 5_000, 30_000
    body = struct.pack("<HHB3x", 3, 0, 0) * messages
    one = header((16, struct.pack("<QQ", SUPERBLOCK, len(body))), count=messages + 1)
    first = SUPERBLOCK + len(body)
    links = [link(b"o%04d" % n, first + n * len(one)) for n in range(objects)]
    body += one * objects
    return finished(body + header(*links), SUPERBLOCK + len(body))


def fractal_heap(root: int, rows: int, bits: int) -> bytes:
    body = b"FRHP\0" + struct.pack("<HHBI", 7, 0, 0, 4096) + bytes(8) + struct.pack("<Q", UNDEFINED)
    return body + bytes(80) + struct.pack("<HQQHHQHI", 4, 512, 65536, bits, 1, root, rows, 0)


def heap_within_itself() -> bytes:
    """A table of 65535 rows: the last would be of 2**65534 bytes; every block is the table."""
    table = SUPERBLOCK
    body = b"FHIB\0" + bytes(16) + struct.pack("<Q", table) * 1000
    heap = SUPERBLOCK + len(body)
    body += fractal_heap(table, 65535, 64)
    tree = SUPERBLOCK + len(body)
    body += b"BTHD\0\5" + struct.pack("<IHHBBQHQI", 512, 15, 0, 100, 40, tree + 38, 1, 1, 0)
    body += b"BTLF\0\5" + bytes(5) + b"\xff" * 8 + bytes(20)
    root = SUPERBLOCK + len(body)
    return finished(body + header((LINK_INFO, struct.pack("<BBQQ", 0, 0, heap, tree))), root)


def deep_tree() -> bytes:
    """A tree of version 2 with 65535 levels: numbers of records would have thousands of digits."""
    heap = SUPERBLOCK
    body = fractal_heap(SUPERBLOCK, 0, 32)
    tree = SUPERBLOCK + len(body)
    body += b"BTHD\0\5" + struct.pack("<IHHBBQHQI", 2**31, 11, 65535, 100, 40, tree, 1, 1, 0)
    root = SUPERBLOCK + len(body)
    return finished(body + header((LINK_INFO, struct.pack("<BBQQ", 0, 0, heap, tree))), root)


LIES = (
    header_of_continuations,
    groups_that_share_a_tree,
    tree_of_itself,
    strings_that_are_one,
    attribute_of_one_string,
    chunks_that_are_large,
    headers_that_share_a_part,
    heap_within_itself,
    deep_tree,
)
