"""The validation firmware: its frames, its cycles, and what `edgeflow verify --port` says when something is wrong."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import write_bundle
from edgeflow.backends.artefact import load_artefact, package
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.validation import VERSION, identity
from edgeflow.backends.protocol import Artefact, Attached
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.conformance import compare_board
from edgeflow.errors import EdgeflowError
from edgeflow.ir.types import IntArray
from edgeflow.semantics.interpret import interpret
from edgeflow.toolchain.process import Limits, run
from edgeflow.toolchain.serial_link import Frame, encode
from edgeflow.toolchain.serial_port import SerialPort
from tests.conftest import NeedTool
from tests.graphs import extreme_inputs, random_graph
from tests.toolchain.board_peer import Peer, Script

C = CBackend()
VALIDATED = COptions(validation=True)
GRAPH = random_graph(23)


def board_of(core: Core) -> McuBoard:
    board = load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    return replace(board, core=core)


def built(folder: Path, core: Core = Core.CORTEX_M4F, options: COptions = VALIDATED) -> Artefact:
    write_bundle(folder, package(C, GRAPH, board_of(core), options))
    return load_artefact(folder)


# The other end, faked: it answers as the firmware does, from the interpreter.


def hello(artefact: Artefact, version: int = VERSION, known: bytes | None = None) -> bytes:
    board = artefact.board
    assert isinstance(board, McuBoard)
    emitted = emit_model(artefact.graph, None, board.core)
    inputs = sum(emitted.lowered.buffers[one.name].size for one in GRAPH.inputs)
    outputs = sum(emitted.output_buffer(one.name).size for one in GRAPH.outputs)
    start = struct.pack("<BBHIII", version, 1, 0, inputs, outputs, len(emitted.kernels))
    return start + (identity(emitted) if known is None else known)


def samples(artefact: Artefact, inputs: dict[str, IntArray]) -> list[bytes]:
    """What the board answers to each sample: outputs, then cycles 1, 2, 3 ... of the layers, ten times that for the
    second sample."""
    board = artefact.board
    assert isinstance(board, McuBoard)
    emitted = emit_model(artefact.graph, None, board.core)
    expected, _ = interpret(GRAPH, inputs)
    layers = len(emitted.kernels)
    found: list[bytes] = []
    for number in range(len(next(iter(inputs.values())))):
        parts = [
            expected[one.name][number].astype(emitted.output_buffer(one.name).ctype.dtype).tobytes()
            for one in GRAPH.outputs
        ]
        cycles = np.arange(1, layers + 1, dtype="<u4") * 10**number
        found.append(b"".join(parts) + cycles.tobytes())
    return found


def reply(frame: Frame, payload: bytes) -> bytes:
    return encode(Frame(frame.kind.lower(), frame.sequence, payload))


def firmware(artefact: Artefact, answers: list[bytes], change: dict[int, Callable[[bytes], bytes | None]]) -> Script:
    """A board. `change` alters what it sends for some frames, by the kind's number or the frame's."""
    state = {"at": 0}

    def answer(frame: Frame, number: int) -> bytes | None:
        if frame.kind == "H":
            right = reply(frame, hello(artefact))
        elif frame.kind == "S":
            right = reply(frame, struct.pack("<I", 321))
        else:
            right = reply(frame, answers[state["at"]])
            state["at"] += number not in change
        return change[number](right) if number in change else right

    return answer


def two(seed: int = 5) -> dict[str, IntArray]:
    return {name: values[:2] for name, values in extreme_inputs(GRAPH, seed).items()}


def asked(artefact: Artefact, script: Script, inputs: dict[str, IntArray]) -> tuple[Peer, object]:
    with Peer(script) as peer:
        try:
            return peer, C.ask_board(artefact, inputs, Attached(peer.device, patience=0.06))
        except EdgeflowError as error:
            return peer, str(error).replace(peer.device, "DEV")


def test_outputs_and_cycles_are_collected(tmp_path: Path) -> None:
    artefact, inputs = built(tmp_path / "fw"), two()
    answers = samples(artefact, inputs)
    with Peer(firmware(artefact, answers, {})) as peer:
        told: list[tuple[int, int]] = []
        attached = Attached(peer.device, told=lambda done, of: told.append((done, of)))
        expected, _ = interpret(GRAPH, inputs)
        found = compare_board(artefact, C, inputs, expected, attached)
    assert (found.runner, found.mismatches, found.bit_exact) == ("board", 0, True)
    assert found.title == f"C on the board at {peer.device}"
    assert told == [(0, 2), (1, 2)]
    figures = {(one.name, one.layer is None): one for one in found.resources}
    layers = [one.value for one in found.resources if one.layer]
    assert layers == [5.5 * number for number in range(1, len(layers) + 1)]
    assert figures["cycles", True].value == sum(layers)
    assert figures["cycles, most", True].value == 10 * sum(range(1, len(layers) + 1))
    assert figures["stack on the board", True].value == 321
    assert str(figures["cycles", True].source) == (
        f"measured: on the board at {peer.device}, DWT cycle counter, mean of 2 samples"
    )


def test_a_wrong_output_is_named(tmp_path: Path) -> None:
    artefact, inputs = built(tmp_path / "fw"), two()
    answers = samples(artefact, inputs)
    answers[1] = bytes([answers[1][0] ^ 1]) + answers[1][1:]
    expected, _ = interpret(GRAPH, inputs)
    with Peer(firmware(artefact, answers, {})) as peer:
        found = compare_board(artefact, C, inputs, expected, Attached(peer.device))
    first = found.first
    assert first is not None
    want = int(expected[GRAPH.outputs[0].name][1].reshape(-1)[0])
    assert (found.mismatches, first.sample, first.element, first.expected, first.got) == (1, 1, 0, want, want ^ 1)


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def test_a_damaged_transfer_is_repeated(tmp_path: Path) -> None:
    artefact, inputs = built(tmp_path / "fw"), two()
    expected, _ = interpret(GRAPH, inputs)
    with Peer(firmware(artefact, samples(artefact, inputs), {0: flipped, 2: flipped, 4: lambda _: b""})) as peer:
        found = compare_board(artefact, C, inputs, expected, Attached(peer.device, patience=0.06))
    assert found.bit_exact
    assert [frame.kind for frame in peer.heard] == list("HHRRRRS")[: len(peer.heard)]


LOST = "reset it; if that repeats itself, the firmware faults there: look at it with a debugger"
FLASH = "flash build/validation.elf of this folder, and reset the board"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            dict.fromkeys(range(3), lambda _: b""),
            "the board does not answer\n  fix: flash build/validation.elf, reset the board, "
            "check the wires and --baud 115200",
        ),
        (
            dict.fromkeys(range(3), lambda _: b"\xff\x00 noise"),
            "something answers, but not the validation firmware\n"
            "  fix: check that --baud 115200 is BAUD in validation/port.c, and that this firmware is flashed",
        ),
        (
            dict.fromkeys(range(2, 5), flipped),
            "every transfer was damaged on its way, at sample 1 of 2\n"
            "  fix: shorten the wires, or choose a lower BAUD in validation/port.c and --baud (now 115200)",
        ),
        (
            dict.fromkeys(range(2, 5), lambda _: b""),
            f"the board stopped answering, at sample 1 of 2\n  fix: {LOST}",
        ),
        ({1: lambda _: None}, "the board was unplugged, at sample 0 of 2\n  fix: plug the board in, and run it again"),
    ],
    ids=["silent", "noise", "damaged", "stops", "unplugged"],
)
def test_what_goes_wrong_on_the_line_is_told(
    change: dict[int, Callable[[bytes], bytes | None]], told: str, tmp_path: Path
) -> None:
    artefact, inputs = built(tmp_path / "fw"), two()
    _, answer = asked(artefact, firmware(artefact, samples(artefact, inputs), change), inputs)
    assert answer == f"DEV: {told}"


def test_another_firmware_is_told(tmp_path: Path) -> None:
    artefact, inputs = built(tmp_path / "fw"), two()
    own = hello(artefact)[16:]
    other, stale = bytes(32) + own[32:], own[:32] + bytes(32)
    cases = {
        hello(artefact, known=other): (
            f"DEV: the firmware on the board is another model's: graph 000000000000, this folder's is "
            f"{own.hex()[:12]}\n  fix: {FLASH}"
        ),
        hello(artefact, known=stale): (
            "DEV: the firmware on the board was made of other C source for the same graph: it is stale\n"
            f"  fix: {FLASH}; where that does not help, build the folder again first"
        ),
        hello(artefact, version=9): (
            f"DEV: the firmware on the board speaks version 9, this edgeflow {VERSION}\n"
            "  fix: build the folder again, and flash its build/validation.elf"
        ),
    }
    for said, told in cases.items():
        assert asked(artefact, lambda frame, _, said=said: reply(frame, said), inputs)[1] == told


def test_a_folder_without_the_firmware_is_told(tmp_path: Path) -> None:
    artefact = built(tmp_path / "fw", options=COptions())
    assert not (tmp_path / "fw" / "validation").exists()
    with pytest.raises(EdgeflowError) as raised:
        C.ask_board(artefact, two(), Attached("/dev/none"))
    assert str(raised.value) == (
        f"{tmp_path / 'fw'}: was built without the validation firmware, which a board needs for --port\n"
        "  fix: build it again with --set validation=true, and flash its build/validation.elf"
    )


# The firmware itself.


@contextmanager
def emulated(image: Path, machine: str, emulator: str) -> Iterator[str]:
    """QEMU with its UART at a pseudo-terminal, whose path it prints."""
    argv = [emulator, "-M", machine, "-display", "none", "-monitor", "none", "-serial", "pty", "-kernel", str(image)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert child.stdout is not None
        found = re.search(r"/dev/pts/\d+", child.stdout.readline().decode())
        assert found
        yield found[0]
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def make(folder: Path, cmake: str, *targets: str) -> None:
    for argv in ([cmake, "-B", "build"], [cmake, "--build", "build", "--target", *targets]):
        done = run(argv, Limits(seconds=300), cwd=folder)
        assert done.code == 0, done.last_words(20)
        assert b"warning" not in done.stdout + done.stderr


@pytest.mark.parametrize("core", [Core.CORTEX_M4F, Core.CORTEX_M0PLUS])
def test_the_firmware_answers_bit_for_bit_through_the_emulators_uart(
    core: Core, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("arm-none-eabi-gcc")
    cmake, emulator = need_tool("cmake"), need_tool("qemu-system-arm")
    artefact = built(tmp_path / "fw", core)
    make(artefact.folder, cmake, "validation", "validation_qemu")
    inputs = extreme_inputs(GRAPH, 3)
    expected, _ = interpret(GRAPH, inputs)
    image = artefact.folder / "build" / "validation_qemu.elf"
    with emulated(image, core.qemu_machine, emulator) as device:
        with SerialPort(device, 115200) as port:
            port.write(b"eF noise, and a frame that breaks off: " + encode(Frame("R", 3, bytes(64)))[:30])
        found = compare_board(artefact, C, inputs, expected, Attached(device))
        again = compare_board(artefact, C, inputs, expected, Attached(device))
    assert (found.mismatches, again.mismatches) == (0, 0)
    cycles = [one.value for one in found.resources if one.name == "cycles"]
    assert all(value >= 0 for value in cycles)
    assert cycles[0] == pytest.approx(sum(cycles[1:]))
    assert cycles[0] > 0
    assert {one.name: one.value for one in found.resources}["stack on the board"] > 0
