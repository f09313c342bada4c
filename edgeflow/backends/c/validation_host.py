"""Our end of the validation firmware: is it this model's, then sample after sample, cycles and stack."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.c.validation import VERSION
from edgeflow.backends.protocol import Attached
from edgeflow.errors import EdgeflowError
from edgeflow.ir.types import IntArray
from edgeflow.toolchain.serial_link import Fault, Link, NoAnswer
from edgeflow.toolchain.serial_port import Disconnected, SerialPort

_HELLO = struct.Struct("<BBBxIII64s")
_DIGEST = 32
_HELLO_SECONDS, _FIRST_SECONDS, _LEAST_SECONDS = 2.0, 120.0, 5.0
"""Patience with a greeting; with the first inference; with any later one, or four times the first's duration."""

_COUNTERS = {0: "no counter", 1: "DWT cycle counter", 2: "SysTick"}


@dataclass(frozen=True)
class Expected:
    """What the firmware on the board must be: its identity, and the bytes of a sample's inputs and outputs."""

    identity: bytes
    inputs: int
    outputs: int
    layers: int


@dataclass(frozen=True)
class Answered:
    """What a board answered: raw outputs of every sample, cycles by sample and layer, the stack's bytes.

    `counter` names what counted the cycles; a count of 2**32 - 1 stands for anything longer. None: no counter.
    `emulated`: an emulator stands in for the board, and the cycles are its time. `retries` counts the transfers that
    had to be repeated.
    """

    outputs: bytes
    cycles: IntArray
    counter: str | None
    emulated: bool
    stack: int
    retries: int


def run_on_board(attached: Attached, expected: Expected, samples: Sequence[bytes]) -> Answered:
    """Sends every sample to the board and collects what it answers.

    Raises EdgeflowError: a port that cannot be used, a silent board, another firmware, damaged transfers.
    """
    longest = max(expected.inputs, expected.outputs + 4 * expected.layers, _HELLO.size)
    with SerialPort(attached.device, attached.baud) as port:
        link = Link(port, longest)
        counter, emulated = _greet(link, attached, expected)
        outputs: list[bytes] = []
        cycles: list[IntArray] = []
        patience = _FIRST_SECONDS * attached.patience
        for number, sample in enumerate(samples):
            attached.told(number, len(samples))
            began = time.monotonic()
            size = expected.outputs + 4 * expected.layers
            found = _asked(link, "R", sample, size, patience, attached, f"sample {number} of {len(samples)}")
            if number == 0:
                patience = max(_LEAST_SECONDS * attached.patience, 4 * (time.monotonic() - began))
            outputs.append(found[: expected.outputs])
            cycles.append(np.frombuffer(found, dtype="<u4", offset=expected.outputs).astype(np.int64))
        (stack,) = struct.unpack("<I", _asked(link, "S", b"", 4, patience, attached, "the stack's measure"))
    return Answered(b"".join(outputs), np.array(cycles), counter, emulated, stack, link.retries)


def _greet(link: Link, attached: Attached, expected: Expected) -> tuple[str | None, bool]:
    """Which counter the board has, and is it emulated, once it is known that the right firmware runs there."""
    where = attached.device
    try:
        said = link.ask("H", b"", _HELLO.size, _HELLO_SECONDS * attached.patience)
    except NoAnswer as error:
        raise _no_firmware(error.fault, attached) from None
    fix = "flash build/validation.elf of this folder, and reset the board"
    if len(said) < 1 or said[0] != VERSION or len(said) != _HELLO.size:
        raise EdgeflowError(
            f"the firmware on the board speaks version {said[0] if said else '?'}, this edgeflow {VERSION}",
            where=where,
            fix="build the folder again, and flash its build/validation.elf",
        )
    _, counter, emulated, inputs, outputs, layers, known = _HELLO.unpack(said)
    graph, wanted = known[:_DIGEST].hex(), expected.identity[:_DIGEST].hex()
    if graph != wanted:
        raise EdgeflowError(
            f"the firmware on the board is another model's: graph {graph[:12]}, this folder's is {wanted[:12]}",
            where=where,
            fix=fix,
        )
    if known != expected.identity or (inputs, outputs, layers) != (expected.inputs, expected.outputs, expected.layers):
        raise EdgeflowError(
            "the firmware on the board was made of other C source for the same graph: it is stale",
            where=where,
            fix=f"{fix}; where that does not help, build the folder again first",
        )
    return (_COUNTERS.get(counter, f"counter {counter}") if counter else None), bool(emulated)


def _no_firmware(fault: Fault, attached: Attached) -> EdgeflowError:
    where = attached.device
    if fault is Fault.SILENT:
        return EdgeflowError(
            "the board does not answer",
            where=where,
            fix=f"flash build/validation.elf, reset the board, check the wires and --baud {attached.baud}",
        )
    if fault is Fault.NOISE:
        return EdgeflowError(
            "something answers, but not the validation firmware",
            where=where,
            fix=f"check that --baud {attached.baud} is BAUD in validation/port.c, and that this firmware is flashed",
        )
    return _broken(fault, attached, "the greeting")


def _asked(link: Link, kind: str, payload: bytes, size: int, seconds: float, attached: Attached, what: str) -> bytes:
    try:
        found = link.ask(kind, payload, size, seconds)
    except NoAnswer as error:
        raise _broken(error.fault, attached, what) from None
    except Disconnected as error:
        raise EdgeflowError(f"the board was unplugged, at {what}", where=error.where, fix=error.fix) from None
    if len(found) != size:
        raise EdgeflowError(
            f"the board answered {len(found)} bytes to {what}, not {size}", where=attached.device, fix="reset it"
        )
    return found


def _broken(fault: Fault, attached: Attached, what: str) -> EdgeflowError:
    if fault in (Fault.SILENT, Fault.NOISE):
        told = "the board stopped answering" if fault is Fault.SILENT else "the board answers no whole frame any more"
        fix = "reset it; if that repeats itself, the firmware faults there: look at it with a debugger"
    else:
        told = "every transfer was damaged on its way"
        fix = f"shorten the wires, or choose a lower BAUD in validation/port.c and --baud (now {attached.baud})"
    return EdgeflowError(f"{told}, at {what}", where=attached.device, fix=fix)
