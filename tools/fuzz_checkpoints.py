"""Damages checkpoints and graphs in many ways: nothing but CheckpointError may come of it.

    python tools/fuzz_checkpoints.py --count 20000 model.ckpt model.h5 saved_model_folder ...

A seed is what ``open_checkpoint`` takes; one of its files is damaged at a time: bits flipped, cut
short, blocks swapped or inserted, numbers overwritten with extreme ones or others of the file,
names put in the place of others.  In most damaged tables (TF's checkpoints) the blocks' checksums
are made right again, so that the code behind them is reached.  Everything that the file offers is
read: tensors, names, every signature's graph with all of its constants; with ``--port`` it is
ported, too, which may also end with a PortError.  Each damaged file is read by a process with
limited memory and time.  Reported: other exceptions, crashes, hangs, memory, and with
``--checksums`` (for formats that have one for every value) tensors whose values changed though no
checksum was repaired.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import torch

from tfcompat_dw import port_model
from tfcompat_dw.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from tfcompat_dw.porting import PortError

TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]
EXTREMES += [2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
BATCH = 50
"""Damaged files that one process reads."""
WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_/:.]*")


# ---- damage --------------------------------------------------------------------------------------


def flip_bits(data: bytearray, dice: random.Random) -> None:
    """One bit, or a few."""
    for _ in range(dice.choice((1, 1, 2, 8))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def truncate(data: bytearray, dice: random.Random) -> None:
    """Keeps the beginning, or the end."""
    at = dice.randrange(len(data))
    if dice.random() < 0.8:
        del data[at:]
    else:
        del data[:at]


def overwrite_number(data: bytearray, dice: random.Random) -> None:
    """An extreme number of 1 to 8 bytes, in either byte order, or as a varint."""
    value = dice.choice(EXTREMES)
    if dice.random() < 0.3:
        new = _varint(value)
    else:
        size = dice.choice((1, 2, 4, 8))
        new = (value % 256**size).to_bytes(size, dice.choice(("little", "big")))
    at = dice.randrange(len(data))
    data[at : at + len(new)] = new


def change_digits(data: bytearray, dice: random.Random) -> None:
    """Another number where the text has one."""
    digits = [at for at in range(len(data)) if chr(data[at]) in "0123456789"][:100_000]
    if digits:
        at = dice.choice(digits)
        data[at : at + 1] = dice.choice((b"-1", b"9" * 20, b"0", b"1e999", b"null", b'"'))


def move_number(data: bytearray, dice: random.Random) -> None:
    """Another number of the file, or one more or less, where there are four bytes."""
    if len(data) >= 8:
        here, there = (4 * dice.randrange(len(data) // 4) for _ in range(2))
        number = int.from_bytes(data[there : there + 4], "little")
        if dice.random() < 0.3:
            number = int.from_bytes(data[here : here + 4], "little") + dice.choice((-4, -1, 1, 4))
        data[here : here + 4] = (number % 2**32).to_bytes(4, "little")


def rename(data: bytearray, dice: random.Random) -> None:
    """A word in the place of another: of the same length, unless the file is text."""
    words = list(WORD.finditer(data))
    is_text = b"\0" not in data
    if words:
        here = dice.choice(words)
        fitting = [one[0] for one in words if is_text or len(one[0]) == len(here[0])]
        data[here.start() : here.end()] = dice.choice(fitting)


def swap_blocks(data: bytearray, dice: random.Random) -> None:
    """Two blocks of the same size."""
    size = min(len(data), dice.choice((1, 4, 8, 64, 512)))
    one, other = (dice.randrange(len(data) - size + 1) for _ in range(2))
    first, second = data[one : one + size], data[other : other + size]
    data[one : one + size], data[other : other + size] = second, first


def insert(data: bytearray, dice: random.Random) -> None:
    """Noise, zeros or a copy of another part."""
    size = dice.choice((1, 4, 16, 100, 5000))
    at = dice.randrange(len(data))
    other = dice.randrange(len(data))
    new = dice.choice((dice.randbytes(size), bytes(size), bytes(data[other : other + size])))
    data[at:at] = new


def delete(data: bytearray, dice: random.Random) -> None:
    """A part."""
    at = dice.randrange(len(data))
    del data[at : at + dice.choice((1, 4, 16, 100, 5000))]


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [
    flip_bits,
    flip_bits,
    truncate,
    overwrite_number,
    overwrite_number,
    move_number,
    rename,
    change_digits,
    swap_blocks,
    insert,
    delete,
]


def _varint(value: int) -> bytes:
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def repaired(data: bytearray, sizes: list[tuple[int, int]]) -> bytearray:
    """The checksums of a table's blocks made right; (offset, size with compression byte) each."""
    for offset, size in sizes:
        crc = _masked(data[offset : offset + size])
        data[offset + size : offset + size + 4] = struct.pack("<I", crc)
    return data


def table_blocks(data: bytes) -> list[tuple[int, int]]:
    """Where the blocks of a sound table are."""
    found = []
    if data.endswith(TABLE_MAGIC):
        starts = [0]
        for end in range(len(data) - 48):  # a block ends where its checksum says so
            at = starts[-1]
            if end - at < 8 or not 0 <= end - at < 2**22:
                continue
            stored = struct.unpack_from("<I", data, end)[0]
            if data[end - 1] < 2 and _masked(data[at:end]) == stored:
                found.append((at, end - at))
                starts.append(end + 4)
    return found


def _masked(content: bytes | bytearray) -> int:
    crc: int = google_crc32c.value(bytes(content))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


# ---- reading -------------------------------------------------------------------------------------


def digest(tensor: torch.Tensor) -> str:
    """Of a tensor's bytes."""
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(data).hexdigest()


def read_all(path: Path) -> dict[str, str]:
    """Everything that a checkpoint offers, each part on its own; the tensors' digests by name.

    CheckpointErrors of single tensors are as good as none.
    """
    checkpoint = open_checkpoint(path)
    values = {}
    for name in checkpoint:
        try:
            info = checkpoint.info(name)
            if info.dtype == "string":
                checkpoint.strings(name)
            values[name] = digest(checkpoint[name])
        except CheckpointError:
            continue
    for about in (Checkpoint.variable_names, Checkpoint.model_config, Checkpoint.keras_version):
        try:
            getattr(checkpoint, about.__name__)()
        except CheckpointError:
            continue
    with suppress(CheckpointError):
        for signature in checkpoint.signatures() or (None,):
            read_graph(checkpoint, signature)
    return values


def read_graph(checkpoint: Checkpoint, signature: str | None) -> None:
    """The graph with the value of every constant, all of them at the same time."""
    with suppress(CheckpointError):
        graph = checkpoint.graph(signature)
        if graph is not None:
            kept = []
            for name in graph.constants:
                with suppress(CheckpointError):
                    kept.append(graph.constants[name])
            assert all(one.node in graph.nodes for one in graph.outputs.values())
            assert all(one.output.node in graph.nodes for one in graph.inputs)


def port(path: Path) -> None:
    """The whole way to a module."""
    with suppress(CheckpointError, PortError):
        port_model(path)


@dataclass(frozen=True)
class Seed:
    """A checkpoint, and the folder that holds all of it."""

    path: Path

    @property
    def files(self) -> list[Path]:
        """Those that belong to it, relative to the folder that it is in."""
        if self.path.is_dir():
            inner = [file for file in self.path.rglob("*") if file.is_file()]
        elif self.path.name == "model.json":  # beside its shards
            inner = [file for file in self.path.parent.iterdir() if file.is_file()]
        else:
            name = self.path.name.partition("-?????-of-")[0]
            prefix = name.removesuffix(".index").removesuffix(".meta")
            inner = [
                file
                for file in self.path.parent.iterdir()
                if file.is_file()
                and (file.name == prefix or file.name[len(prefix) :][:1] in ".-")
                and file.name.startswith(prefix)
            ]
        return sorted(file.relative_to(self.path.parent) for file in inner)


@dataclass(frozen=True)
class Mutation:
    """What happens to a seed: all of it follows from the number."""

    seed: Seed
    number: int

    def apply(self, folder: Path) -> tuple[Path, bool]:
        """A damaged copy in ``folder``; its path, and whether checksums were repaired."""
        dice = random.Random(self.number)
        files = [file for file in self.seed.files if (self.seed.path.parent / file).stat().st_size]
        victim = dice.choice(files)
        for file in self.seed.files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            if file == victim:
                data, repair = damaged(self.seed.path.parent / file, dice)
                (folder / file).write_bytes(data)
            elif self.seed.path.name == "model.json":  # links out of its folder are not followed
                shutil.copyfile(self.seed.path.parent / file, folder / file)
            else:
                (folder / file).symlink_to((self.seed.path.parent / file).resolve())
        return folder / self.seed.path.name, repair


_BLOCKS: dict[Path, list[tuple[int, int]]] = {}


def damaged(path: Path, dice: random.Random) -> tuple[bytes, bool]:
    """A file's bytes after some damage, and whether its checksums were repaired."""
    original = path.read_bytes()
    data = bytearray(original)
    for _ in range(dice.choice((1, 1, 1, 3))):
        if data:
            dice.choice(DAMAGES)(data, dice)
    repair = bool(_BLOCKS[path]) and len(data) == len(original) and dice.random() < 0.7
    return bytes(repaired(data, _BLOCKS[path]) if repair else data), repair


# ---- processes -----------------------------------------------------------------------------------


def run_batch(mutations: list[Mutation], options: argparse.Namespace, pipe: int) -> None:
    """In a process of its own: a line for each mutation before and after it is read."""
    sound = {seed: read_all(seed.path) for seed in {each.seed for each in mutations}}
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + options.memory * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for mutation in mutations:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path, repair = mutation.apply(Path(folder))
            os.write(pipe, f"{mutation.number} begins\n".encode())
            signal.setitimer(signal.ITIMER_REAL, options.seconds)
            outcome = read_one(path, None if repair else sound[mutation.seed], options)
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.write(pipe, f"{mutation.number} {outcome}\n".encode())


def read_one(path: Path, sound: dict[str, str] | None, options: argparse.Namespace) -> str:
    """``ok``, ``refused`` or what went wrong."""
    try:
        if options.port:
            port(path)
        values = read_all(path)
    except CheckpointError:
        return "refused"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return f"{type(error).__name__} at {place}: {str(error)[:200]!r}"
    if options.checksums and sound is not None:
        changed = [name for name, value in values.items() if sound.get(name) != value]
        if changed:
            return f"changed: {changed[:3]}"
    return "ok"


def outcomes(mutations: list[Mutation], options: argparse.Namespace) -> Iterator[tuple[int, str]]:
    """What became of each; a process that dies takes one mutation with it."""
    while mutations:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            code = 1
            try:
                run_batch(mutations, options, write_end)
                code = 0
            finally:
                os._exit(code)
        os.close(write_end)
        with os.fdopen(read_end) as lines:
            told = [line.rstrip("\n").split(" ", 1) for line in lines]
        _, status = os.waitpid(child, 0)
        done = [(int(number), outcome) for number, outcome in told if outcome != "begins"]
        yield from done
        mutations = mutations[len(done) :]
        if status and mutations:
            number = os.waitstatus_to_exitcode(status)
            dead = "hangs" if number == -signal.SIGALRM else f"the process ended with {number}"
            yield mutations[0].number, dead
            mutations = mutations[1:]


def main() -> int:
    """The command line; 1 if anything was found."""
    about = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    about.add_argument("seeds", nargs="+", type=Path, help="what open_checkpoint takes")
    about.add_argument("--count", type=int, default=2000, help="how many damaged files in all")
    about.add_argument("--seed", type=int, default=0, help="number of the first one")
    about.add_argument("--memory", type=int, default=512, help="MiB beyond what the process has")
    about.add_argument("--seconds", type=float, default=10, help="for one file")
    about.add_argument("--checksums", action="store_true", help="report changed values, too")
    about.add_argument("--port", action="store_true", help="port each file, too")
    about.add_argument("--keep", type=Path, help="folder for the damaged files that were reported")
    options = about.parse_args()
    seeds = [Seed(path) for path in options.seeds]
    for seed in seeds:
        for file in seed.files:
            path = seed.path.parent / file
            _BLOCKS[path] = table_blocks(path.read_bytes())
        read_all(seed.path)
        if options.port:  # which loads what every port needs
            port(seed.path)
    first = options.seed
    mutations = [Mutation(seeds[n % len(seeds)], n) for n in range(first, first + options.count)]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as options.folder:
        for start in range(0, len(mutations), BATCH):
            for number, outcome in outcomes(mutations[start : start + BATCH], options):
                counts[outcome if outcome in ("ok", "refused") else "reported"] += 1
                if outcome not in ("ok", "refused"):
                    report(mutations[number - first], outcome, options)
    print(f"{options.count} damaged files:", dict(counts))
    return int(counts["reported"] > 0)


def report(mutation: Mutation, outcome: str, options: argparse.Namespace) -> None:
    """A line that is enough to do it again."""
    print(f"{mutation.seed.path} --seed {mutation.number}: {outcome}", flush=True)
    if options.keep:
        folder = options.keep / str(mutation.number)
        shutil.rmtree(folder, ignore_errors=True)
        mutation.apply(folder)


if __name__ == "__main__":
    sys.exit(main())
