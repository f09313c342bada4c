"""The child that reads mutated copies of a `.tflite` file: `python mutate.py FILE COUNT SEED`, under limits.

Prints how many were read and imported, how many refused. Anything but an EdgeflowError is a traceback and exit code 1.
"""

from __future__ import annotations

import json
import signal
import struct
import sys
from pathlib import Path

import numpy as np

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.tflite import import_tflite
from edgeflow.frontends.tflite.flatbuffer import Flatbuffer
from edgeflow.frontends.tflite.reader import MOST_BUFFERS
from edgeflow.frontends.tflite.schema import Buffer, Model

SECONDS = 5
"""What one file may take."""
_WORDS = (0, 1, 2, 3, 4, 8, 64, 127, 128, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE)
_LARGE = 64
"""Bytes of a constant whose inside is not structure."""


def structure(whole: bytes) -> list[int]:
    """Places of 32-bit words outside the large constants."""
    skip = np.zeros(len(whole) // 4, dtype=bool)
    for buffer in Flatbuffer(whole, "").root("model").tables(Model.BUFFERS, "buffer", MOST_BUFFERS):
        start, size = buffer.span(Buffer.DATA, 1)
        if size > _LARGE:
            skip[start // 4 : (start + size) // 4] = True
    return [4 * int(one) for one in np.flatnonzero(~skip)]


def mutated(whole: bytes, places: list[int], rng: np.random.Generator) -> bytes:
    """A copy with one to four changes, most of them in the structure."""
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.choice(places)) if rng.random() < 0.9 else 4 * int(rng.integers(len(whole) // 4))
        match int(rng.integers(8)):
            case 0:
                data = data[: int(rng.integers(len(data))) + 1] if rng.random() < 0.2 else data
            case 1 | 2:
                if place + 4 <= len(data):
                    data[place + int(rng.integers(4))] ^= 1 << int(rng.integers(8))
            case 3 | 4:
                data[place : place + 4] = struct.pack("<I", int(rng.choice(_WORDS)))
            case 5:
                other = int(rng.choice(places))
                data[place : place + 4] = whole[other : other + 4]
            case 6:
                word = struct.unpack_from("<I", whole, place)[0] if place + 4 <= len(whole) else 0
                data[place : place + 4] = struct.pack("<I", (word + int(rng.integers(-16, 17))) % (1 << 32))
            case _:
                data[place : place + 2] = struct.pack("<H", int(rng.choice(_WORDS[:12])))
    return bytes(data)


def check(error: EdgeflowError) -> None:
    """One to three lines, and no control characters for a terminal to act on."""
    lines = str(error).splitlines()
    assert 1 <= len(lines) <= 3, lines
    assert all(line.isprintable() for line in lines), lines


def main(file: Path, count: int, seed: int) -> dict[str, int]:
    """Reads and imports each mutation; counts what became of them."""
    whole = file.read_bytes()
    places = structure(whole)
    rng = np.random.default_rng(seed)
    ends = {"imported": 0, "refused": 0}
    for number in range(count):
        data = mutated(whole, places, rng)
        signal.alarm(SECONDS)
        try:
            import_tflite(data, "a.tflite")
            ends["imported"] += 1
        except EdgeflowError as error:
            check(error)
            ends["refused"] += 1
        except BaseException:
            keep = Path(f"{file.stem}-{seed}-{number}.tflite")
            keep.write_bytes(data)
            raise
        finally:
            signal.alarm(0)
    return ends


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201 - read by the test
