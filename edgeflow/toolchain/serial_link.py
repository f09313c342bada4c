"""Questions and answers over a serial port, in frames with checksums: noise, loss and silence are told apart.

A frame is two magic bytes, kind, sequence number, the payload's length (32 bits) and the CRC-32 of these 8 bytes;
then, where the length is not 0, the payload and its CRC-32. Numbers are little-endian, the CRC-32 is zlib's.
"""

from __future__ import annotations

import enum
import struct
import time
import zlib
from dataclasses import dataclass

from edgeflow.toolchain.serial_port import SerialPort

MAGIC = b"eF"
HEADER = 12
_HEAD = struct.Struct("<2sBBI")
_CRC = struct.Struct("<I")
_REFUSED = "n"


class Fault(enum.Enum):
    """Why no answer came: nothing arrived, only bytes that are no frame, damaged frames, or a refusal."""

    SILENT = "silent"
    NOISE = "noise"
    DAMAGED = "damaged"
    REFUSED = "refused"


class NoAnswer(Exception):
    """Every try of a question failed, the last one by `fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True)
class Frame:
    """A frame whose checksums are right. `kind` is one letter."""

    kind: str
    sequence: int
    payload: bytes


def encode(frame: Frame) -> bytes:
    """The frame's bytes."""
    head = _HEAD.pack(MAGIC, ord(frame.kind), frame.sequence, len(frame.payload))
    head += _CRC.pack(zlib.crc32(head))
    return head + (frame.payload + _CRC.pack(zlib.crc32(frame.payload)) if frame.payload else b"")


class Decoder:
    """Finds frames in what arrives, from any place on. `longest` is the most bytes of a payload.

    `heard` says whether anything came; `damaged` counts the frames whose payload is not what was sent.
    """

    def __init__(self, longest: int) -> None:
        self.heard = False
        self.damaged = 0
        self._longest = longest
        self._buffer = bytearray()

    def add(self, data: bytes) -> None:
        """Takes more bytes."""
        self.heard = self.heard or bool(data)
        self._buffer += data

    def next(self) -> Frame | None:
        """The next whole frame, if there is one."""
        buffer = self._buffer
        while (start := buffer.find(MAGIC)) >= 0:
            del buffer[:start]
            if len(buffer) < HEADER:
                return None
            _, kind, sequence, length = _HEAD.unpack_from(buffer)
            if zlib.crc32(buffer[:8]) != _CRC.unpack_from(buffer, 8)[0] or length > self._longest:
                del buffer[:1]
                continue
            end = HEADER + length
            if length and len(buffer) < end + 4:
                return None
            payload = bytes(buffer[HEADER:end])
            if length and zlib.crc32(payload) != _CRC.unpack_from(buffer, end)[0]:
                self.damaged += 1
                del buffer[:1]
                continue
            del buffer[: end + (4 if length else 0)]
            return Frame(chr(kind), sequence, payload)
        del buffer[:-1]
        return None


class Link:
    """Asks a board. `longest` is the most payload that either side sends; `tries` is how often a question is put.

    Before another try it sends as many zeros as the board may still wait for, so that both begin anew.
    """

    def __init__(self, port: SerialPort, longest: int, tries: int = 3) -> None:
        self.retries = 0
        self._port = port
        self._longest = longest
        self._tries = tries
        self._sequence = 0

    def ask(self, kind: str, payload: bytes, size: int, seconds: float) -> bytes:
        """The answer's payload: of kind `kind.lower()`, with the question's number.

        It may take `seconds` beyond the time of sending both, `size` bytes of answer. Raises NoAnswer, EdgeflowError.
        """
        fault = Fault.SILENT
        for attempt in range(self._tries):
            if attempt:
                self.retries += 1
                self._port.write(bytes(self._longest + HEADER + 4))
            self._sequence = (self._sequence + 1) & 0xFF
            sent = encode(Frame(kind, self._sequence, payload))
            self._port.write(sent)
            found = self._receive(kind.lower(), seconds + self._port.seconds(len(sent) + size + HEADER + 4))
            if isinstance(found, bytes):
                return found
            fault = found
        raise NoAnswer(fault)

    def _receive(self, kind: str, seconds: float) -> bytes | Fault:
        """The answer, or why there is none. A late answer to an earlier question is passed over."""
        decoder = Decoder(self._longest)
        deadline = time.monotonic() + seconds
        while not decoder.damaged:
            data = self._port.read(deadline)
            if not data:
                return Fault.NOISE if decoder.heard else Fault.SILENT
            decoder.add(data)
            while (frame := decoder.next()) is not None:
                if frame.sequence == self._sequence and frame.kind in (kind, _REFUSED):
                    return frame.payload if frame.kind == kind else Fault.REFUSED
        return Fault.DAMAGED
