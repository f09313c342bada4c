"""The validation firmware: its frames, its cycles, and what `edgeflow verify --port` says when something is wrong."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill, write_bundle
from edgeflow.backends.artefact import load_artefact, package
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.files import Files, model_files
from edgeflow.backends.c.firmware import COMPILE_FLAGS
from edgeflow.backends.c.validation import DRIVERS, VERSION, identity
from edgeflow.backends.protocol import Artefact, Attached
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.conformance import compare_board, graph_inputs
from edgeflow.errors import EdgeflowError, ToolFailed
from edgeflow.ir.types import IntArray
from edgeflow.pipeline import open_graph
from edgeflow.semantics.interpret import interpret
from edgeflow.toolchain.gcc import compile_object
from edgeflow.toolchain.process import Limits, run
from edgeflow.toolchain.qemu import ICOUNT_SHIFT, MACHINES
from edgeflow.toolchain.serial_link import Frame, encode
from edgeflow.toolchain.serial_port import SerialPort
from edgeflow.vectors import read_vectors
from tests.conftest import Command, NeedTool
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
    inputs = sum(emitted.lowered.buffers[one.name].size for one in artefact.graph.inputs)
    outputs = sum(emitted.output_buffer(one.name).size for one in artefact.graph.outputs)
    start = struct.pack("<BBHIII", version, 1, 0, inputs, outputs, len(emitted.kernels))
    return start + (identity(emitted, model_files(emitted, Files.ONE)) if known is None else known)


def samples(artefact: Artefact, inputs: dict[str, IntArray], *, growing: bool = True) -> list[bytes]:
    """What the board answers to each sample: outputs, then cycles 1, 2, 3 ... of the layers, and where they are
    growing ten times as many for each further sample."""
    board = artefact.board
    assert isinstance(board, McuBoard)
    emitted = emit_model(artefact.graph, None, board.core)
    expected, _ = interpret(artefact.graph, inputs)
    layers = len(emitted.kernels)
    found: list[bytes] = []
    for number in range(len(next(iter(inputs.values())))):
        parts = [
            expected[one.name][number].astype(emitted.output_buffer(one.name).ctype.dtype).tobytes()
            for one in artefact.graph.outputs
        ]
        cycles = np.arange(1, layers + 1, dtype="<u4") * (10**number if growing else 1)
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
    assert [frame.kind for frame in peer.heard] == list("HHRRRRS")


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


TICKS = 3.2
"""Of SysTick (25 MHz) for an instruction of 2**ICOUNT_SHIFT ns."""


@contextmanager
def emulated(image: Path, machine: str, emulator: str) -> Generator[str]:
    """QEMU with its UART at a pseudo-terminal, whose path it prints, and its clock bound to the instructions."""
    silent = ["-display", "none", "-monitor", "none", "-icount", f"shift={ICOUNT_SHIFT},sleep=off"]
    argv = [emulator, "-M", machine, *silent, "-serial", "pty", "-kernel", str(image)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    try:
        found = re.search(r"/dev/pts/\d+", child.stdout.readline().decode())
        assert found
        yield found[0]
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def make(folder: Path, cmake: str, *targets: str) -> None:
    for argv in ([cmake, "-B", "build"], [cmake, "--build", "build", "--target", *targets]):
        done = run(argv, Limits(seconds=300), cwd=folder)
        assert done.code == 0, done.last_words(20)
        assert b"warning" not in done.stdout + done.stderr


def check_emulated(artefact: Artefact, core: Core, inputs: dict[str, IntArray], need_tool: NeedTool) -> float:
    """Outputs bit for bit, after a frame that broke off; the cycles agree with the counted instructions. Gives them."""
    for name in ("arm-none-eabi-gcc", "cmake"):
        need_tool(name)
    emulator = need_tool("qemu-system-arm")
    make(artefact.folder, need_tool("cmake"), "validation", "validation_qemu")
    expected, _ = interpret(artefact.graph, inputs)
    sample = sum(one[0].size for one in inputs.values())
    image = artefact.folder / "build" / "validation_qemu.elf"
    with emulated(image, core.qemu_machine, emulator) as device:
        with SerialPort(device, 115200) as port:
            port.write(b"eF noise, and a frame that breaks off: " + encode(Frame("R", 3, bytes(sample)))[:-8])
        found = compare_board(artefact, C, inputs, expected, Attached(device))
        again = compare_board(artefact, C, inputs, expected, Attached(device))
    assert (found.mismatches, again.mismatches) == (0, 0)
    work = artefact.folder / "build" / "count"
    work.mkdir()
    counted = {one.name: one.value for one in C.run(C.build(artefact, "qemu", work), inputs).resources}
    cycles = [one.value for one in found.resources if one.name == "cycles"]
    assert cycles[0] == pytest.approx(sum(cycles[1:]))
    assert cycles[0] / TICKS == pytest.approx(counted["instructions"], rel=0.02, abs=60)
    stack = {one.name: one.value for one in found.resources}["stack on the board"]
    assert counted["stack"] <= stack <= counted["stack"] + 64
    assert found.title == f"C under QEMU at {device}"
    assert str(found.resources[0].source).startswith(f"unverified: under QEMU at {device}, SysTick, mean of ")
    return cycles[0]


@pytest.mark.parametrize("core", [Core.CORTEX_M4F, Core.CORTEX_M0PLUS])
def test_the_firmware_answers_bit_for_bit_through_the_emulators_uart(
    core: Core, tmp_path: Path, need_tool: NeedTool
) -> None:
    check_emulated(built(tmp_path / "fw", core), core, extreme_inputs(GRAPH, 3), need_tool)


@pytest.mark.slow
def test_a_counter_of_24_bits_that_wraps_counts_on(data: Path, tmp_path: Path, need_tool: NeedTool) -> None:
    """Keyword spotting, whose every inference takes longer than SysTick has bits."""
    graph = open_graph(data / "models" / "kws_ref_model.tflite")
    write_bundle(tmp_path / "fw", package(C, graph, board_of(Core.CORTEX_M0PLUS), VALIDATED))
    inputs = {name: values[:2] for name, values in extreme_inputs(graph, 3).items()}
    cycles = check_emulated(load_artefact(tmp_path / "fw"), Core.CORTEX_M0PLUS, inputs, need_tool)
    assert cycles > 1 << 24


@pytest.mark.slow
@pytest.mark.parametrize("core", [Core.CORTEX_M3, Core.CORTEX_M7, Core.CORTEX_M33, Core.CORTEX_M55])
def test_the_firmware_answers_on_every_other_core(core: Core, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    emulator = need_tool("qemu-system-arm")
    artefact, inputs = built(tmp_path / "fw", core), extreme_inputs(GRAPH, 3)
    make(artefact.folder, need_tool("cmake"), "validation_qemu")
    expected, _ = interpret(GRAPH, inputs)
    with emulated(artefact.folder / "build" / "validation_qemu.elf", core.qemu_machine, emulator) as device:
        assert compare_board(artefact, C, inputs, expected, Attached(device)).bit_exact


def test_riscv_is_refused_by_name() -> None:
    found = C.check(GRAPH, load_board("longan-nano"), VALIDATED)
    assert [(one.what, one.fix) for one in found] == [
        (
            "the validation firmware reads the counters of Arm's cores, which RISC-V has not",
            "build without --set validation=true",
        )
    ]
    assert C.check(GRAPH, load_board("longan-nano"), COptions()) == ()


@pytest.mark.parametrize("name", ["nucleo-f446re", "stm32f103c8", "microbit-v2", "rpi-pico"])
def test_the_serial_port_of_every_board_compiles_without_a_warning(
    name: str, tmp_path: Path, need_tool: NeedTool
) -> None:
    """Nothing more is known of it: no board has been tried."""
    need_tool("arm-none-eabi-gcc")
    board = load_board(name)
    assert isinstance(board, McuBoard)
    fill(tmp_path, C.emit(GRAPH, board, VALIDATED))
    own = tmp_path / "validation"
    assert "NOT TRIED ON THE BOARD" in " ".join((own / "port.c").read_text().split())
    flags = (*board.core.gcc_flags, *COMPILE_FLAGS, "-Wconversion", "-Wshadow", "-Werror", f"-I{own}")
    for source in ("port.c", "port_qemu.c", "main.c"):
        compile_object(own / source, tmp_path / "model", tmp_path / "one.o", flags)


def test_an_unknown_chips_serial_port_is_the_users_to_write(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    fill(tmp_path, C.emit(GRAPH, replace(board_of(Core.CORTEX_M3), chip="LPC1768"), VALIDATED))
    with pytest.raises(ToolFailed, match="fill in the three functions for your board's UART"):
        compile_object(tmp_path / "validation" / "port.c", tmp_path / "model", tmp_path / "one.o", ())


def test_the_model_is_the_same_with_and_without_the_firmware() -> None:
    """What is measured is what is shipped."""
    plain, measured = (C.emit(GRAPH, board_of(Core.CORTEX_M4F), one).files for one in (COptions(), VALIDATED))
    models = [name for name in plain if name.startswith("model/")]
    assert len(models) == 2
    assert [plain[name] for name in models] == [measured[name] for name in models]
    assert {name for name in measured if name not in plain} == {
        f"validation/{name}" for name in ("main.c", "port.c", "port.h", "port_qemu.c", "profile.h")
    }


# The command line.


@pytest.fixture
def built_student(edgeflow: Command, student: Path, tmp_path: Path) -> Path:
    edgeflow("build", student, "--board", "rpi-pico", "--set", "validation=true", "-o", tmp_path / "fw")
    return tmp_path / "fw"


def attached_peer(folder: Path, vectors: Path) -> Peer:
    artefact = load_artefact(folder)
    answers = samples(artefact, graph_inputs(artefact.graph, read_vectors(vectors)), growing=False)
    return Peer(firmware(artefact, answers, {}))


def test_verify_with_a_port_shows_the_board_and_the_cycles_of_each_layer(
    edgeflow: Command, built_student: Path, data: Path
) -> None:
    vectors = data / "digits" / "vectors.npz"
    with attached_peer(built_student, vectors) as peer:
        answer = edgeflow("verify", built_student, "--vectors", vectors, "--runner", "board", "--port", peer.device)
    title = f"C on the board at {peer.device}"
    assert answer.code == 0
    assert re.search(rf"{title} +360   0 of 3600 values differ   \d+ cycles each\n", answer.out)
    assert re.search(rf"{title} +cycles    share\n  'conv1' +1 +\d", answer.out)
    assert f"  measured: on the board at {peer.device}, DWT cycle counter, mean of 360 samples\n" in answer.out
    record = json.loads((built_student / "run.json").read_text())
    (target,) = record["targets"]
    assert (target["runner"], target["title"], target["mismatches"]) == ("board", title, 0)
    assert [one["layer"] for one in target["resources"]][:4] == [None, None, None, "conv1"]
    answer = edgeflow("report", built_student)
    assert answer.code == 0
    assert "'conv1'" in answer.out
    page = (built_student / "report.html").read_text()
    assert "cycles of &#39;conv1&#39;" in page or "cycles of 'conv1'" in page


def test_ctrl_c_frees_the_port(
    edgeflow: Command, built_student: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(self: SerialPort, deadline: float) -> bytes:
        raise KeyboardInterrupt

    vectors = data / "digits" / "vectors.npz"
    with attached_peer(built_student, vectors) as peer:
        with monkeypatch.context() as patch:
            patch.setattr(SerialPort, "read", pressed)
            answer = edgeflow("verify", built_student, "--vectors", vectors, "--runner", "board", "--port", peer.device)
        assert answer.code == 130
        assert not (built_student / "run.json").exists()
        with SerialPort(peer.device, 115200) as port:
            assert port.device == peer.device


def test_the_runner_board_needs_a_port(edgeflow: Command, built_student: Path, data: Path) -> None:
    answer = edgeflow("verify", built_student, "--vectors", data / "digits" / "vectors.npz", "--runner", "board")
    assert (answer.code, answer.err) == (
        2,
        "error: the runner board needs a board\n  fix: --port DEV says where it is\n",
    )


def test_a_missing_port_ends_with_code_2(edgeflow: Command, built_student: Path, data: Path) -> None:
    words = ("--vectors", data / "digits" / "vectors.npz", "--runner", "board", "--port", "/dev/ttyNONE")
    answer = edgeflow("verify", built_student, *words)
    assert answer.code == 2
    assert answer.err.startswith("error: /dev/ttyNONE: there is no such serial port\n  fix: plug the board in; ")


def test_another_backend_has_no_such_firmware(edgeflow: Command, student: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fw"
    edgeflow("build", student, "--board", "nucleo-f446re", "--backend", "tflm", "-o", folder)
    words = ("--vectors", data / "digits" / "vectors.npz", "--runner", "board", "--port", "/dev/ttyNONE")
    answer = edgeflow("verify", folder, *words)
    assert (answer.code, answer.err) == (
        2,
        "error: backend tflm has no firmware for --port\n  fix: build with --backend c\n",
    )


def test_the_page_names_every_serial_port_and_the_machines(root: Path) -> None:
    page = (root / "docs" / "validate-on-your-board.md").read_text()
    rows = re.findall(r"^\| (\w+) \| U\w+ \|", page, flags=re.MULTILINE)
    assert rows[1:] == list(DRIVERS)
    assert set(re.findall(r"mps\d-an\d+", page)) == {name for name, one in MACHINES.items() if one.uart}


def test_what_the_page_quotes_is_what_the_code_says(root: Path) -> None:
    page = (root / "docs" / "validate-on-your-board.md").read_text()
    code = "".join(
        (root / "edgeflow" / name).read_text() for name in ("toolchain/serial_port.py", "backends/c/validation_host.py")
    )
    said = re.findall(r"^\| ([^|]+) \|", page.split("## When it does not work")[1], flags=re.MULTILINE)[1:]
    assert len(said) == 9
    assert [one for one in said if one not in code] == []
