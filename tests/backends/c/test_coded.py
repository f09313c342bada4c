"""Activations of few bits stay packed in the arena where that makes it smaller, and every byte of the outputs stays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgeflow.backends.c import emit
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.coded import Layers, Packer
from edgeflow.backends.c.coded_choice import narrow_tensors, plan_of
from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.estimate import RAM_BAND, WORK_BAND, estimate
from edgeflow.backends.c.kernel import Context
from edgeflow.backends.c.memory import memory_map
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.plan import Plan
from edgeflow.backends.c.simulate import simulate
from edgeflow.backends.protocol import microcontroller
from edgeflow.board import Core, load_board
from edgeflow.ir.graph import Graph
from tests.backends.c import zoo
from tests.backends.c.misra import IN_ASSEMBLY, SHIFTS
from tests.backends.c.students import Student, binary, encoder, flattened, residual, separable
from tests.backends.c.test_exact import assert_exact, run_c
from tests.backends.c.test_static import CHECKS, WARNINGS, clean, unlisted
from tests.conftest import NeedTool
from tests.graphs import extreme_inputs, random_graph

C = CBackend()


def packed(emitted: Emitted) -> list[str]:
    """The tensors that are kept packed."""
    return [name for name, one in emitted.lowered.buffers.items() if one.coding]


def everything(layers: Layers, context: Context, inputs: Sequence[str]) -> tuple[Layers, Plan]:
    """A plan in which all that can be packed is."""
    all_packed = Packer(layers, context).pack(narrow_tensors(layers, context))
    return all_packed, plan_of(all_packed, inputs)


@pytest.fixture
def all_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "plan_layers", everything)
    monkeypatch.setattr(emit, "_recent", {})


CASES: dict[str, Callable[[], Graph]] = {
    "4 bits": lambda: Student((9, 6, 3)).conv(8).conv(8).conv(5).done(),
    "2 bits": lambda: Student((9, 6, 3), 2).conv(16).conv(9).conv(5).done(),
    "1 bit": lambda: Student((9, 6, 3), 1).conv(16).conv(11).conv(5).done(),
    "ternary": lambda: Student((9, 6, 3), 2, -1).conv(16).conv(9).conv(5).done(),
    "from 3 up": lambda: Student((9, 6, 3), 4, 3).conv(16).conv(9).conv(5).done(),
    "below 0": lambda: Student((9, 6, 3), 4, -8).conv(16).conv(9).conv(5).done(),
    "short rows": lambda: Student((9, 3, 3), 2).conv(7).conv(7).conv(5).done(),
    "depthwise": lambda: Student((9, 7, 8)).conv(8).conv(8, depthwise=True).conv(12, 1).conv(4).done(),
    "stride 2, dilation": lambda: Student((13, 9, 8)).conv(8, 3, 2).conv(8, 3, dilation=2).conv(8, 5).conv(4).done(),
    "pool": lambda: Student((12, 8, 4)).conv(8).pool().conv(8).pool().conv(4).done(),
    "total": lambda: Student((10, 6, 4)).conv(8).conv(8).total().flatten().dense(4).done(),
    "residual": residual,
    "flattened": flattened,
    "rows of 15, flattened": lambda: Student((6, 5, 4)).conv(3).flatten().dense(8).relu().dense(4).done(),
    "an input of 4 bits": lambda: Student((9, 6, 4), given=(0, 15)).conv(8).conv(4).done(),
    "an input of 2 bits below 0": lambda: Student((9, 7, 3), given=(-2, 1)).conv(8).conv(4).done(),
    "one axis": lambda: Student((40,), given=(0, 3)).dense(40).relu().dense(24).relu().dense(4).done(),
    "joined and upsampled": encoder,
    "separable": lambda: separable(channels=16, blocks=2),
}
SEEDS = (8, 25, 31, 55)


def graph_of(name: str) -> Graph:
    return random_graph(int(name)) if name.isdigit() else CASES[name]()


ALL = [*CASES, *map(str, SEEDS)]


@pytest.mark.usefixtures("all_packed")
@pytest.mark.parametrize("name", ALL)
def test_packed_everywhere_it_is_exact_and_clean_under_the_sanitizers(
    name: str, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    graph = graph_of(name)
    emitted = emit_model(graph, core=Core.CORTEX_M4F)
    assert packed(emitted)
    assert simulate(emitted.plan.schedule, emitted.plan.placement.offsets) == ()
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


BOARDS = ("nucleo-f446re", "rpi-pico")


@pytest.mark.slow
@pytest.mark.usefixtures("all_packed")
@pytest.mark.parametrize("board", [*BOARDS, "longan-nano"])
@pytest.mark.parametrize("name", ALL)
def test_packed_everywhere_it_is_exact_on_every_core(
    name: str, board: str, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("qemu-system-arm")
    graph = graph_of(name)
    inputs = extreme_inputs(graph, 3)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "qemu", board))


@pytest.mark.usefixtures("all_packed")
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", ["separable", "residual", "flattened", "an input of 2 bits below 0"])
def test_estimates_count_packing_within_their_bands(name: str, board: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph, target = graph_of(name), microcontroller(load_board(board))
    emitted = emit_model(graph, core=target.core)
    assert packed(emitted)
    inputs = extreme_inputs(graph, 1, 4)
    run = run_c(graph, inputs, tmp_path, "qemu", board)
    assert_exact(graph, inputs, run)
    found = {one.name: one.value for one in run.resources}
    guess = {one.name: one.value for one in estimate(graph, target, 0) if one.layer is None}
    assert guess["instructions"] == pytest.approx(found["instructions"], rel=WORK_BAND)
    assert guess["RAM"] == pytest.approx(emitted.plan.size + found["stack"], rel=RAM_BAND)


@pytest.mark.parametrize(("make", "core"), [(separable, Core.CORTEX_M4F), (binary, Core.CORTEX_M0PLUS)])
def test_packing_saves_a_tenth_of_the_arena_and_more(make: Callable[[], Graph], core: Core) -> None:
    graph = make()
    fast, small = (emit_model(graph, core=core, optimize=one) for one in (Optimize.SPEED, Optimize.BALANCED))
    assert packed(fast) == []
    assert packed(small)
    assert small.plan.size < 0.9 * fast.plan.size
    assert simulate(small.plan.schedule, small.plan.placement.offsets) == ()


def test_what_needs_a_byte_is_not_packed() -> None:
    assert packed(emit_model(residual((24, 16, 8), 8), core=Core.CORTEX_M4F)) == []


def test_what_saves_nothing_is_not_packed() -> None:
    graph = Student((4, 4, 4)).conv(4).flatten().dense(4).done()
    assert packed(emit_model(graph, core=Core.CORTEX_M4F)) == []


def test_inputs_and_outputs_keep_their_bytes() -> None:
    graph = binary()
    emitted = emit_model(graph, core=Core.CORTEX_M4F)
    assert "\0x packed" in packed(emitted)
    assert [(one.ctype, one.size) for one in emitted.model.inputs] == [("uint8_t", 784)]
    assert all(one.coding is None for one in emitted.lowered.buffers.values() if one.place != "arena")


def test_the_map_of_memory_says_what_is_packed() -> None:
    found = memory_map(emit_model(binary(), core=Core.CORTEX_M4F))
    shown = {held.what for moment in found.moments for held in moment.held}
    assert any(one.endswith(" (1 bit a value)") for one in shown)
    assert not any("\0" in one for one in shown)


@pytest.mark.usefixtures("all_packed")
def test_layers_share_what_packs_and_what_unpacks() -> None:
    emitted = emit_model(Student((9, 6, 8)).conv(8).conv(16).conv(8).conv(8).done(), core=Core.CORTEX_M4F)
    assert len([one for one in emitted.kernels if "from 4 bits to 4 bits" in one.what]) == 2
    assert emitted.source.count("static void unpack_") == emitted.source.count("static void pack_") == 1


def narrow(core: Core) -> Emitted:
    """Layers of every kind that packs or unpacks."""
    net = Student((8, 6, 8), 4, -8, given=(-2, 1)).conv(8, depthwise=True).pool().conv(8, depthwise=True)
    return emit_model(net.flatten().dense(4).done(), "student", core)


@pytest.mark.usefixtures("all_packed")
@pytest.mark.parametrize("core", [Core.CORTEX_M0PLUS, Core.CORTEX_M4F])
def test_no_compiler_warns(core: Core, tmp_path: Path, need_tool: NeedTool) -> None:
    sources = zoo.write(tmp_path, {"student": narrow(core)})
    for compiler, language in itertools.product(("gcc", "clang"), (("-std=c99",), ("-x", "c++"))):
        assert clean([need_tool(compiler), "-fsyntax-only", *language, *WARNINGS, *sources]) == ""


@pytest.mark.usefixtures("all_packed")
def test_cppcheck_and_misra_find_nothing(tmp_path: Path, need_tool: NeedTool) -> None:
    emitted = narrow(Core.CORTEX_M4F)
    assert {one.template for one in emitted.kernels} >= {"coded", "code"}
    sources = zoo.write(tmp_path, {"student": emitted})
    quiet = [f"--suppress={one}" for one in (*SHIFTS, *IN_ASSEMBLY)]
    assert clean([need_tool("cppcheck"), *CHECKS, *quiet, *sources]) == ""
    assert unlisted(need_tool("cppcheck"), sources) == set()


def test_the_same_graph_gives_the_same_bytes() -> None:
    options, board = COptions(), load_board("nucleo-f446re")
    graph = separable(channels=16, blocks=2)
    first = C.emit(graph, board, options)
    emit._recent.clear()
    assert C.emit(graph, board, options).files == first.files
