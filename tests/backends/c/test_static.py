"""Compilers and cppcheck find nothing in the text of generated models, and MISRA's rules but for what is listed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.files import Files
from edgeflow.backends.protocol import Artefact, Program
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.frontends import load_model
from edgeflow.passes import simplify
from edgeflow.semantics.interpret import interpret
from tests.backends.c import zoo
from tests.backends.c.misra import DEVIATIONS, IN_ASSEMBLY, SHIFTS
from tests.conftest import NeedTool
from tests.graphs import extreme_inputs

KINDS = (Core.CORTEX_M0PLUS, Core.CORTEX_M4F)
"""Plain C, and C around functions in assembly; slow tests take every core."""
FEW = ("form_0", "form_3", "random_2")
"""Two convolutions and a mix, for what takes time."""
C = CBackend()
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wundef", "-pedantic", "-Werror")
NEWLIB = ("-isystem", "/usr/include/newlib")
_ARM_CLANG = ("-Wno-sign-conversion", "-Wno-unknown-attributes", "-Wno-overlength-strings")
"""clang's arm_acle.h has other signs than gcc's, clang knows no `noipa`, and a function in assembly is a long text."""
TRAPS = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
SANITIZE = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")
CHECKS = ("--quiet", "--std=c99", "--enable=warning,style,performance,portability", "--template={id}|{file}:{line}")
EVERY = [pytest.param(core, marks=() if core in KINDS else pytest.mark.slow) for core in Core]
AMOUNTS = [pytest.param(zoo.covering, id="few"), pytest.param(zoo.models, id="all", marks=pytest.mark.slow)]
Amount = Callable[[Core], dict[str, Emitted]]


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("core", EVERY)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("language", [("-std=c99",), ("-x", "c++")], ids=["c99", "c++"])
@pytest.mark.parametrize("files", Files)
def test_no_compiler_warns(
    files: Files,
    core: Core,
    compiler: str,
    language: tuple[str, ...],
    amount: Amount,
    tmp_path: Path,
    need_tool: NeedTool,
) -> None:
    sources = zoo.write(tmp_path, amount(core), files)
    flags = (*WARNINGS, "-Wdouble-promotion") if compiler == "gcc" else WARNINGS
    assert clean([need_tool(compiler), "-fsyntax-only", *language, *flags, *sources]) == ""


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("core", EVERY)
@pytest.mark.parametrize("files", Files)
def test_the_cores_own_compiler_does_not_warn(
    files: Files, core: Core, amount: Amount, tmp_path: Path, need_tool: NeedTool
) -> None:
    sources = zoo.write(tmp_path, amount(core), files)
    command = [need_tool("arm-none-eabi-gcc"), *core.gcc_flags, "-fsyntax-only", "-std=c99", *WARNINGS]
    assert clean([*command, *sources]) == ""


@pytest.mark.skipif(not Path(NEWLIB[1]).is_dir(), reason="newlib's headers lie elsewhere")
def test_clang_assembles_what_gcc_does(tmp_path: Path, need_tool: NeedTool) -> None:
    target = ("--target=thumbv7em-none-eabi", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=softfp", *NEWLIB)
    for source in zoo.write(tmp_path, zoo.covering(Core.CORTEX_M4F)):
        out = ("-O1", "-c", source, "-o", tmp_path / "made.o")
        assert clean([need_tool("clang"), *target, "-std=c99", *WARNINGS, *_ARM_CLANG, *out]) == ""


@pytest.fixture(scope="session")
def need_sanitizers(need_tool: NeedTool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips the test, or fails it where CI=true, without the library that clang's sanitizers run with."""
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    if clean([need_tool("clang"), *SANITIZE, folder / "empty.c", "-o", folder / "empty"]):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("libclang-rt is not installed")


@pytest.mark.usefixtures("need_sanitizers")
@pytest.mark.parametrize("files", Files)
@pytest.mark.parametrize("core", KINDS)
@pytest.mark.parametrize("name", FEW)
def test_clangs_sanitizers_find_nothing(
    name: str, core: Core, files: Files, tmp_path: Path, need_tool: NeedTool
) -> None:
    run_with_clang(name, core, files, SANITIZE, tmp_path, need_tool("clang"))


@pytest.mark.slow
@pytest.mark.usefixtures("need_sanitizers")
@pytest.mark.parametrize("core", Core)
def test_clangs_sanitizers_find_nothing_in_any_kernel(core: Core, tmp_path: Path, need_tool: NeedTool) -> None:
    for name in zoo.covering(core):
        (tmp_path / name).mkdir()
        run_with_clang(name, core, Files.ONE, SANITIZE, tmp_path / name, need_tool("clang"))


@pytest.mark.parametrize("core", KINDS)
@pytest.mark.parametrize("name", FEW)
def test_no_trap_of_clangs_for_undefined_behaviour_is_met(
    name: str, core: Core, tmp_path: Path, need_tool: NeedTool
) -> None:
    run_with_clang(name, core, Files.ONE, TRAPS, tmp_path, need_tool("clang"))


def run_with_clang(name: str, core: Core, files: Files, flags: tuple[str, ...], folder: Path, clang: str) -> None:
    """Compiles a model of the zoo for this machine and holds its outputs against the interpreter's."""
    graph, board = zoo.graphs()[name], load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    board, options = replace(board, core=core), COptions(files=files.value)
    fill(folder, C.emit(graph, board, options))
    sources = [*(folder / "model").glob("*.c"), folder / "verify" / "host.c"]
    assert clean([clang, *flags, "-O1", "-g", "-I", folder / "model", *sources, "-o", folder / "host"]) == ""
    inputs = extreme_inputs(graph, 5)
    artefact = Artefact(folder, "c", graph, board, options, "", graph)
    done = C.run(Program(artefact, "host-sanitized", folder, folder / "host"), inputs)
    for output, values in interpret(graph, inputs)[0].items():
        np.testing.assert_array_equal(done.outputs[output], values)


@pytest.mark.parametrize("core", EVERY)
def test_cppcheck_finds_nothing(core: Core, tmp_path: Path, need_tool: NeedTool) -> None:
    sources = zoo.write(tmp_path, zoo.covering(core))
    quiet = [f"--suppress={one}" for one in (*SHIFTS, *IN_ASSEMBLY)]
    assert clean([need_tool("cppcheck"), *CHECKS, *quiet, *sources]) == ""


@pytest.mark.parametrize("files", Files)
def test_misra_rules_are_kept_or_listed(files: Files, tmp_path: Path, need_tool: NeedTool) -> None:
    found = zoo.models(Core.CORTEX_M4F)
    few = {name: found[name] for name in FEW}
    assert unlisted(need_tool("cppcheck"), zoo.write(tmp_path, few, files)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("core", Core)
def test_misra_rules_are_kept_or_listed_by_every_kernel(core: Core, tmp_path: Path, need_tool: NeedTool) -> None:
    assert unlisted(need_tool("cppcheck"), zoo.write(tmp_path, zoo.covering(core))) == set()


@pytest.mark.slow
@pytest.mark.parametrize("core", KINDS)
@pytest.mark.parametrize("model", ["kws_ref_model", "ad01_int8"])
def test_misra_rules_are_kept_or_listed_by_a_real_model(
    model: str, core: Core, tmp_path: Path, data: Path, need_tool: NeedTool
) -> None:
    made = emit_model(simplify(load_model(data / "models" / f"{model}.tflite")), model, core)
    assert unlisted(need_tool("cppcheck"), zoo.write(tmp_path, {model: made})) == set()


def clean(command: list[str | Path]) -> str:
    """What a tool says; "" where it finds nothing."""
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    said = f"{done.stdout}{done.stderr}".strip()
    return said if said or not done.returncode else f"exit code {done.returncode}"


def unlisted(cppcheck: str, sources: list[Path]) -> set[str]:
    """What cppcheck with its MISRA addon finds beyond the list; a file at a time, as models are not linked together."""
    found: set[str] = set()
    for source in sources:
        said = clean([cppcheck, *CHECKS, "--addon=misra", source])
        found |= {line for line in said.splitlines() if _kind(line) not in (*DEVIATIONS, *SHIFTS, *IN_ASSEMBLY)}
    return found


def _kind(line: str) -> str:
    return line.split("|")[0].removeprefix("misra-c2012-")
