"""The generated project as a product: deterministic, warning-free, buildable by hand, inside its memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgeflow import __version__
from edgeflow.artifacts import fill
from edgeflow.backends.artefact import package
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.estimate import FLASH_BAND, RAM_BAND
from edgeflow.backends.c.firmware import _BOOT2, boot2_checksum
from edgeflow.backends.protocol import Artefact
from edgeflow.board import Architecture, McuBoard, all_boards, load_board, parse_board
from edgeflow.errors import DoesNotFit, Unsupported
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, Dyadic, Label, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.transpose import Transpose
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.serialize import graph_digest
from edgeflow.toolchain import elf, qemu
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs, random_graph

C = CBackend()
STRICT = (
    *("-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wundef", "-Wsign-compare", "-pedantic"),
    "-Werror",
)


def emit(folder: Path, seed: int, board: str = "rpi-pico", **options: int | str) -> Artefact:
    graph, target, chosen = random_graph(seed), load_board(board), COptions(**options)  # pyright: ignore[reportArgumentType]
    fill(folder, package(C, graph, target, chosen))
    return Artefact(folder, "c", graph, target, chosen, "", graph)


def test_the_same_graph_gives_the_same_bytes() -> None:
    board = load_board("rpi-pico")
    bundles = [C.emit(random_graph(4), board, COptions()) for _ in range(2)]
    assert bundles[0].files == bundles[1].files
    assert bundles[0].digest == bundles[1].digest


@pytest.mark.parametrize("seed", range(12))
def test_the_source_is_c99_and_cpp_without_a_warning(seed: int, tmp_path: Path, need_tool: NeedTool) -> None:
    gcc, gxx = need_tool("gcc"), need_tool("g++")
    emit(tmp_path, seed)
    (source,) = (tmp_path / "model").glob("*.c")
    subprocess.run([gcc, *STRICT, "-c", source, "-o", tmp_path / "c.o"], check=True)
    as_cpp = [flag for flag in STRICT if not flag.startswith("-std")]
    subprocess.run([gxx, *as_cpp, "-x", "c++", "-c", source, "-o", tmp_path / "cpp.o"], check=True)


def test_the_source_includes_nothing_but_stdint_stddef_and_string(tmp_path: Path) -> None:
    for seed in range(20):
        emit(tmp_path, seed)
        for path in (tmp_path / "model").iterdir():
            included = {line for line in path.read_text().splitlines() if line.startswith("#include <")}
            assert included <= {"#include <stdint.h>", "#include <stddef.h>", "#include <string.h>"}
            path.unlink()


def test_the_prefix_option_starts_every_public_name(tmp_path: Path) -> None:
    emit(tmp_path, 2, prefix="My Net")
    header = (tmp_path / "model" / "my_net.h").read_text()
    assert "void my_net_run(my_net_arena_t *arena" in header


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("data[4]", "data[5]", "moved_in_x_is_as_planned"),
        ("uint8_t bytes[", "uint8_t bytes[8 + ", "arena_is_as_planned"),
    ],
)
def test_a_header_of_another_plan_does_not_compile(
    old: str, new: str, broken: str, tmp_path: Path, need_tool: NeedTool
) -> None:
    files = C.emit(moved(Dyadic(7)), load_board("rpi-pico"), COptions()).files
    (tmp_path / "moved.c").write_bytes(files["model/moved.c"])
    (tmp_path / "moved.h").write_text(files["model/moved.h"].decode().replace(old, new))
    source, made = tmp_path / "moved.c", tmp_path / "moved.o"
    done = subprocess.run([need_tool("gcc"), "-c", source, "-o", made], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert broken in done.stderr


@pytest.mark.parametrize("board", ["rpi-pico", "nucleo-f446re"])
def test_the_version_is_in_the_image_and_takes_no_ram(board: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    artefact = emit(tmp_path, 3, board, prefix="net")
    (tmp_path / "work").mkdir()
    C.build(artefact, "qemu", tmp_path / "work")
    for name in ("firmware.elf", "verify.elf"):
        (symbol,) = [one for one in elf.read_sizes(tmp_path / "work" / name).symbols if one.name == "net_version"]
        assert not symbol.writable
        assert symbol.size < 64
        text = f"edgeflow {__version__}, graph {graph_digest(artefact.graph)[:16]}\0"
        assert symbol.size == len(text)
        assert text.encode() in (tmp_path / "work" / name).read_bytes()


UNITS = {
    "dyadic": (Dyadic(7), "0.0078125f", "0", "one unit is 2^-7"),
    "coarse": (Dyadic(-3), "8.0f", "0", "one unit is 2^3"),
    "affine": (Affine(0.1, 83), "0.1f", "83", "real value = 0.1 * (unit - 83)"),
    "below": (Affine(0.5, -128), "0.5f", "(-128)", "real value = 0.5 * (unit + 128)"),
    "small": (Affine(1e-05, 0), "1e-05f", "0", "real value = 1e-05 * unit"),
}


@pytest.mark.parametrize(("label", "scale", "zero_point", "meaning"), UNITS.values(), ids=UNITS)
def test_the_header_has_each_ports_scale_and_zero_point(
    label: Label, scale: str, zero_point: str, meaning: str
) -> None:
    header = C.emit(moved(label), load_board("rpi-pico"), COptions()).files["model/moved.h"].decode()
    for port in ("MOVED_IN_X", "MOVED_OUT_Y"):
        assert f"#define {port}_SCALE {scale}\n#define {port}_ZERO_POINT {zero_point}\n" in header
    assert header.count(f"; {meaning}. */") == 2


def test_a_unit_by_channel_has_no_constant() -> None:
    header = C.emit(moved(Dyadic((1, 2))), load_board("rpi-pico"), COptions()).files["model/moved.h"].decode()
    assert "_SIZE" in header
    assert "_SCALE" not in header


def moved(label: Label) -> Graph:
    builder = GraphBuilder("moved")
    x = builder.input("x", TensorType((2, 1, 2), -128, 127), label)
    builder.output("y", builder.add(Transpose((1, 0, 2)), (x,), label, "t"))
    return builder.finish()


def test_a_folder_with_a_quote_in_its_name_builds(tmp_path: Path, need_tool: NeedTool) -> None:
    cmake = need_tool("cmake")
    need_tool("arm-none-eabi-gcc")
    folder = tmp_path / "it's mine"
    emit(folder, 3)
    subprocess.run([cmake, "-S", folder, "-B", folder / "build"], capture_output=True, check=True)
    subprocess.run([cmake, "--build", folder / "build"], capture_output=True, check=True)
    assert (folder / "build" / "firmware.bin").is_file()


@pytest.mark.parametrize("board", [one.name for one in all_boards(McuBoard)])
def test_the_project_builds_by_hand_with_cmake(board: str, tmp_path: Path, need_tool: NeedTool) -> None:
    cmake, target = need_tool("cmake"), load_board(board)
    assert isinstance(target, McuBoard)
    need_tool(f"{target.core.architecture.value}-gcc")
    emit(tmp_path, 3, board)
    subprocess.run([cmake, "-S", tmp_path, "-B", tmp_path / "out"], check=True, capture_output=True)
    done = subprocess.run([cmake, "--build", tmp_path / "out"], check=True, capture_output=True, text=True)
    assert "warning" not in done.stderr
    image = (tmp_path / "out" / "firmware.bin").read_bytes()
    if target.core.architecture is Architecture.RISCV:
        # lui sp, then addi sp, sp, 0
        assert int.from_bytes(image[:4], "little") == (target.ram_regions[0].end | 2 << 7 | 0x37)
        return
    vectors = 256 if target.boot.value == "rp2040-boot2" else 0
    stack = int.from_bytes(image[vectors : vectors + 4], "little")
    entry = int.from_bytes(image[vectors + 4 : vectors + 8], "little")
    assert stack == target.ram_regions[0].end
    assert target.flash_regions[0].origin <= entry < target.flash_regions[0].end
    assert entry % 2 == 1, "Thumb"
    if vectors:
        assert image[252:256] == boot2_checksum().to_bytes(4, "little")
        assert image[: len(_BOOT2)] == _BOOT2


def test_the_board_file_in_the_project_reads_back_as_the_board(tmp_path: Path) -> None:
    for board in all_boards(McuBoard):
        emit(tmp_path, 1, board.name)
        assert parse_board((tmp_path / "board.toml").read_text(), board.name, "board.toml") == board


def test_a_model_larger_than_the_board_is_refused_by_the_linker(
    tmp_path: Path, need_tool: NeedTool, data: Path
) -> None:
    need_tool("arm-none-eabi-gcc")
    builder = GraphBuilder("big")
    at = builder.input("x", TensorType((600,), 0, 255), UNIT)
    for _ in range(2):
        weight = frozen_array([[1] * 600] * builder.type(at).size)
        at = builder.add(Dense(weight, frozen_array([0] * 600)), (at,), UNIT, "dense")
    builder.output("y", at)
    graph, board = builder.finish(), load_board(data / "boards" / "tiny-2k.toml")
    fill(tmp_path, C.emit(graph, board, COptions()))
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(DoesNotFit, match=r"the linked image exceeds flash by [\d,]+ bytes and ram by [\d,]+ bytes"):
        C.build(Artefact(tmp_path, "c", graph, board, COptions(), "", graph), "qemu", work)


@pytest.mark.parametrize("board", ["rpi-pico", "nucleo-f446re"])
@pytest.mark.parametrize("seed", [3, 23])
def test_flash_and_ram_estimates_hold_within_their_band(
    board: str, seed: int, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    artefact = emit(tmp_path, seed, board, stack=0)
    work = tmp_path / "work"
    work.mkdir()
    program = C.build(artefact, "qemu", work)
    run = C.run(program, extreme_inputs(artefact.graph, 1, 8))
    measured = {one.name: one.value for one in (*C.measure(program), *run.resources)}
    guess = {
        one.name: one.value for one in C.estimate(artefact.graph, artefact.board, COptions(stack=0)) if not one.layer
    }
    assert guess["flash"] == pytest.approx(measured["flash"], rel=FLASH_BAND, abs=400)
    assert guess["RAM"] == pytest.approx(
        measured["static RAM"] + measured["stack"], rel=RAM_BAND, abs=128
    )  # 64-bit helpers


def counting_artefact(folder: Path, loops: int) -> Artefact:
    """A model whose body is replaced by a loop of a known number of instructions."""
    artefact = emit(folder, 1)
    (source,) = (folder / "model").glob("*.c")
    text = source.read_text()
    head, body = text.rsplit("{", 1)
    steps = f".syntax unified\\n ldr r3, ={loops}\\n 1: subs r3, #1\\n bne 1b"
    loop = f'__asm__ volatile("{steps}" : : : "r3", "cc");'
    source.write_text(f"{head}{{\n    {loop}\n{body}")
    return artefact


def test_instructions_are_counted_exactly(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    counts: list[float] = []
    for loops in (1000, 1001, 51_000):
        folder = tmp_path / str(loops)
        work = folder / "work"
        artefact = counting_artefact(folder, loops)
        work.mkdir()
        run = C.run(C.build(artefact, "qemu", work), extreme_inputs(artefact.graph, 1, 5))
        figures = {one.name: one.value for one in run.resources}
        counts.append(figures["instructions"])
    assert counts[1] - counts[0] == 2
    assert counts[2] - counts[0] == 2 * 50_000


def test_machines_know_where_their_memory_is() -> None:
    for board in all_boards(McuBoard):
        assert qemu.machine(board.core.qemu_machine).ram_size >= board.ram


def test_an_fpga_is_refused_with_the_reason() -> None:
    with pytest.raises(Unsupported) as caught:
        package(C, random_graph(1), load_board("icebreaker"), COptions())
    assert str(caught.value) == (
        "backend c: icebreaker is no microcontroller board\n"
        "  fix: choose one that edgeflow boards lists as a microcontroller, or add --backend hls4ml for an FPGA"
    )
