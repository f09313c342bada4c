"""A model as one source or as several: the same code, the same tables, names that no other model has."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.files import Files, model_files, sources
from edgeflow.backends.protocol import Artefact
from edgeflow.board import Core, load_board
from edgeflow.semantics.interpret import interpret
from tests.backends.c import zoo
from tests.conftest import NeedTool
from tests.graphs import extreme_inputs

C = CBackend()
SECTION = '-DNET_TABLE=__attribute__((section(".net_tables")))'


def test_several_files_are_calls_kernels_tables_and_a_header_for_them() -> None:
    made = emit_model(zoo.graphs()["random_2"], "net")
    texts = model_files(made, Files.SPLIT)
    assert list(texts) == ["net.h", "net.c", "net_kernels.c", "net_tables.c", "net_internal.h"]
    assert sources(texts) == ("net.c", "net_kernels.c", "net_tables.c")
    assert texts["net.h"] == made.header
    assert list(model_files(made, Files.ONE)) == ["net.h", "net.c"]
    for kernel in made.kernels:
        for table in kernel.tables:
            assert [name for name in sources(texts) if f" net_{table.name}[{table.values.size}] = " in texts[name]] == [
                "net_tables.c"
            ]
            assert f"extern const {table.ctype.name} net_{table.name}[{table.values.size}];" in texts["net_internal.h"]


@pytest.mark.parametrize("core", [Core.CORTEX_M0PLUS, Core.CORTEX_M4F, Core.CORTEX_M55, Core.RV32IMAC])
def test_every_name_that_the_linker_sees_starts_with_the_models(
    core: Core, tmp_path: Path, need_tool: NeedTool
) -> None:
    gcc, nm = need_tool("gcc"), need_tool("nm")
    for name, made in zoo.covering(core).items():
        compiled = tmp_path / "made.o"
        for source in zoo.write(tmp_path, {name: made}, Files.SPLIT):
            subprocess.run([gcc, "-std=c99", "-c", source, "-o", compiled], check=True)
            said = subprocess.run([nm, "-g", "--defined-only", compiled], capture_output=True, text=True, check=True)
            public = [line.split()[-1] for line in said.stdout.splitlines()]
            assert [one for one in public if not one.startswith(f"{name}_")] == []


@pytest.mark.parametrize("board", ["rpi-pico", "nucleo-f446re"])
@pytest.mark.parametrize("runner", ["host-sanitized", "qemu"])
@pytest.mark.parametrize("name", ["form_0", "random_2"])
def test_several_files_give_the_graphs_own_integers(
    name: str, runner: str, board: str, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc" if runner != "qemu" else "qemu-system-arm")
    graph, target, options = zoo.graphs()[name], load_board(board), COptions(files="split")
    fill(tmp_path, C.emit(graph, target, options))
    (tmp_path / "work").mkdir()
    inputs = extreme_inputs(graph, 3)
    artefact = Artefact(tmp_path, "c", graph, target, options, "", graph)
    done = C.run(C.build(artefact, runner, tmp_path / "work"), inputs)
    for output, values in interpret(graph, inputs)[0].items():
        np.testing.assert_array_equal(done.outputs[output], values)


def test_a_project_of_several_files_builds_by_hand(tmp_path: Path, need_tool: NeedTool) -> None:
    cmake = need_tool("cmake")
    need_tool("arm-none-eabi-gcc")
    options = COptions(files="split", validation=True)
    fill(tmp_path, C.emit(zoo.graphs()["random_2"], load_board("nucleo-f446re"), options))
    subprocess.run([cmake, "-S", tmp_path, "-B", tmp_path / "out"], check=True, capture_output=True)
    for target in ("all", "validation"):
        done = subprocess.run([cmake, "--build", tmp_path / "out", "--target", target], check=True, capture_output=True)
        assert b"warning" not in done.stderr
    assert "Copy all of it into your own project" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("files", Files)
@pytest.mark.parametrize("core", [Core.CORTEX_M0PLUS, Core.CORTEX_M4F])
def test_the_user_says_in_which_section_all_tables_lie(
    core: Core, files: Files, tmp_path: Path, need_tool: NeedTool
) -> None:
    gcc, objdump = need_tool("arm-none-eabi-gcc"), need_tool("arm-none-eabi-objdump")
    made = emit_model(zoo.graphs()["form_0"], "net", core)
    size = 0
    for source in zoo.write(tmp_path, {"net": made}, files):
        compiled = source.with_suffix(".o")
        command = [gcc, *core.gcc_flags, "-O0", "-Wall", "-Wextra", "-Werror", SECTION, "-c", source, "-o", compiled]
        subprocess.run(command, check=True)
        said = subprocess.run([objdump, "-h", compiled], capture_output=True, text=True, check=True).stdout
        size += sum(int(one, 16) for one in re.findall(r" \.net_tables +([0-9a-f]+)", said))
    assert made.table_bytes <= size < made.table_bytes + 4 * len(made.kernels) + 4


def test_an_unknown_number_of_files_is_refused() -> None:
    with pytest.raises(ValueError, match='files is "two"; choose one of: one, split'):
        COptions(files="two")
