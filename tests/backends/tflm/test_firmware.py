"""The sources around the model: the array is the file, the program compiles, names from a model are harmless."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow import cli
from edgeflow.artifacts import Bundle, fill
from edgeflow.backends.tflm.backend import TflmOptions
from edgeflow.board import Core, load_board
from edgeflow.conformance import compile_and_run
from edgeflow.errors import MissingTool
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.serialize import to_files
from edgeflow.toolchain import qemu
from tests.backends.tflm.conftest import BOARD, TFLM, emit
from tests.backends.tflm.fake import write_library, write_tree
from tests.backends.tflm.graphs import random_tflm_graph
from tests.conftest import NeedTool

STRICT = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-pedantic", "-Werror")


@pytest.mark.parametrize("seed", range(4))
def test_the_program_and_the_array_compile_without_a_warning(seed: int, tmp_path: Path, need_tool: NeedTool) -> None:
    gcc, gxx = need_tool("gcc"), need_tool("g++")
    emit(random_tflm_graph(seed), tmp_path)
    write_tree(tmp_path / "tflm", newer=seed % 2 == 1)
    include = ("-isystem", str(tmp_path / "tflm"))
    subprocess.run(
        [gxx, "-std=c++17", *STRICT, *include, "-c", tmp_path / "main.cc", "-o", tmp_path / "m.o"], check=True
    )
    subprocess.run([gcc, "-std=c11", *STRICT, "-c", tmp_path / "model_data.c", "-o", tmp_path / "d.o"], check=True)


@pytest.mark.parametrize(
    "words",
    [("gcc", "-std=c99"), ("gcc", "-std=c11"), ("g++", "-x", "c++", "-std=c++11"), ("g++", "-x", "c++", "-std=c++17")],
    ids=lambda words: words[-1],
)
def test_the_array_compiles_in_a_users_own_project(words: tuple[str, ...], tmp_path: Path, need_tool: NeedTool) -> None:
    compiler, *flags = words
    emit(two_layers(), tmp_path)
    compile_it = [need_tool(compiler), *flags, *STRICT, "-c", tmp_path / "model_data.c", "-o", tmp_path / "d.o"]
    subprocess.run(compile_it, check=True)
    shown = subprocess.run([need_tool("nm"), tmp_path / "d.o"], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[1:] == ["R", "two_model"]


def test_the_project_builds_with_cmake_and_a_users_tflm_dir(tmp_path: Path, need_tool: NeedTool) -> None:
    cmake, ar = need_tool("cmake"), need_tool("ar")
    emit(random_tflm_graph(1), tmp_path)
    write_tree(tmp_path / "tflm")
    write_library(tmp_path / "tflm", "linux_x86_64_default_gcc", ar)
    configure = [cmake, "-S", tmp_path, "-B", tmp_path / "out"]
    done = subprocess.run(configure, capture_output=True, text=True, check=False)
    assert "Set TFLM_DIR to a checkout of https://github.com/tensorflow/tflite-micro" in " ".join(done.stderr.split())
    subprocess.run([*configure, f"-DTFLM_DIR={tmp_path / 'tflm'}"], capture_output=True, check=True)
    subprocess.run([cmake, "--build", tmp_path / "out"], capture_output=True, check=True)


def test_the_array_holds_the_files_bytes_at_an_aligned_address(tmp_path: Path, need_tool: NeedTool) -> None:
    gcc = need_tool("gcc")
    emit(random_tflm_graph(2), tmp_path)
    content = (tmp_path / "model.tflite").read_bytes()
    text = (tmp_path / "model_data.c").read_text()
    assert bytes(int(one, 16) for one in re.findall(r"0x([0-9a-f]{2}),?\s", text)) == content
    (tmp_path / "dump.c").write_text(
        '#include "model_data.h"\n#include <stdint.h>\n#include <stdio.h>\nint main(void) {\n'
        "  fwrite(net_2_model, 1, sizeof net_2_model, stdout);\n  return (int)((uintptr_t)net_2_model % 16);\n}\n"
    )
    sources = [tmp_path / "dump.c", tmp_path / "model_data.c"]
    subprocess.run([gcc, "-std=c11", *sources, "-o", tmp_path / "dump"], check=True)
    assert subprocess.run([tmp_path / "dump"], capture_output=True, check=True).stdout == content


def test_the_resolver_has_just_the_operators_that_the_model_uses(tmp_path: Path) -> None:
    emit(two_layers(), tmp_path)
    text = (tmp_path / "main.cc").read_text()
    assert "MicroMutableOpResolver<3>" in text
    assert re.findall(r"resolver\.(.*)\)\) {", text) == [
        "AddMaxPool2D(tflite::Register_MAX_POOL_2D_INT8())",
        "AddReshape()",
        "AddFullyConnected(tflite::Register_FULLY_CONNECTED_INT8())",
    ]


def two_layers(name: str = "two", layer: str = "dense", port: str = "x") -> Graph:
    builder = GraphBuilder(name)
    x = builder.input(port, TensorType((2, 2, 1), 0, 255), Dyadic(8))
    at = builder.add(MaxPool((2, 1), (1, 1), ((0, 0), (0, 0))), (x,), Dyadic(8), f"{layer} pool")
    at = builder.add(Reshape((2,)), (at,), Dyadic(8), f"{layer} flat")
    weight = frozen_array([[9, 1, -7], [3, -128, 127]])
    builder.output(port, builder.add(Dense(weight, frozen_array([0, 1, 2])), (at,), Dyadic(14), layer))
    return builder.finish()


def test_the_inputs_conversion_is_the_models(tmp_path: Path) -> None:
    emit(two_layers(), tmp_path)
    text = (tmp_path / "main.cc").read_text()
    assert 'Input 0, "x": 1x2x2x1, (byte + 128) = real / 0.00390625, byte -128 to 127.' in text
    assert "std::nearbyint(real / 0.00390625f) + -128.0f" in text
    assert 'Output 0, "x": 1x3, real = byte * 0.015625.' in text


HOSTILE = ("*/ int x; /*", "größe", "a\\", '"', "\n#error", "", "${X}", "x" * 300)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_a_model_are_harmless(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    gxx = need_tool("g++")
    emit(two_layers(name, name, name), tmp_path)
    write_tree(tmp_path / "tflm")
    for file in ("main.cc", "model_data.c", "model_data.h", "CMakeLists.txt", "README.md"):
        text = (tmp_path / file).read_text()
        assert text.isascii()
        assert "#error" not in [line.strip()[:6] for line in text.splitlines()]
    include = ("-isystem", str(tmp_path / "tflm"))
    subprocess.run(
        [gxx, "-std=c++17", *STRICT, *include, "-c", tmp_path / "main.cc", "-o", tmp_path / "m.o"], check=True
    )


def test_the_prefix_starts_every_public_name() -> None:
    files = TFLM.emit(TFLM.adapt(two_layers(), BOARD, TflmOptions()), BOARD, TflmOptions(prefix="My Net")).files
    assert b"extern const unsigned char my_net_model[MY_NET_MODEL_SIZE];" in files["model_data.h"]


def copies(name: str = "copies") -> Graph:
    """What the interpreter of the fake tree computes: its input."""
    builder = GraphBuilder(name)
    x = builder.input("x", TensorType((2, 2, 1), -128, 127), Dyadic(7))
    builder.output("y", builder.add(Reshape((4,)), (x,), Dyadic(7), "flat"))
    return builder.finish()


FAILURES = {"schema": 1, "resolver": 2, "arena": 3, "tensors": 4, "": 5}


@pytest.mark.parametrize("newer", [False, True], ids=["tflite", "tflite::micro"])
def test_the_program_calls_the_interpreter_in_order_and_heeds_every_status(
    newer: bool, tmp_path: Path, need_tool: NeedTool
) -> None:
    gcc, gxx = need_tool("gcc"), need_tool("g++")
    emit(copies(), tmp_path)
    write_tree(tmp_path / "tflm", newer=newer)
    subprocess.run([gcc, "-c", tmp_path / "model_data.c", "-o", tmp_path / "d.o"], check=True)
    sources = [tmp_path / "main.cc", tmp_path / "d.o"]
    subprocess.run([gxx, "-isystem", tmp_path / "tflm", *sources, "-o", tmp_path / "main"], check=True)
    logs: dict[str, list[str]] = {}
    for what, code in FAILURES.items():
        done = subprocess.run(
            [tmp_path / "main"], env={"FAKE_FAILS": what}, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, what
        logs[what] = done.stdout.split()
    assert logs[""] == ["RESHAPE", "AllocateTensors", "Invoke", "Invoke", "Invoke"]
    assert logs["arena"] == ["RESHAPE", "AllocateTensors"]


def test_without_tflm_dir_the_message_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = emit(copies(), tmp_path)
    make = (
        "make -C $TFLM_DIR -f tensorflow/lite/micro/tools/make/Makefile"
        " TARGET=cortex_m_generic TARGET_ARCH=cortex-m4 OPTIMIZED_KERNEL_DIR=cmsis_nn microlite"
    )
    site = "https://github.com/tensorflow/tflite-micro"
    folder = tmp_path / "none"
    told = {
        "": f"TFLM_DIR is not set\n  fix: set TFLM_DIR to a checkout of {site} in which you ran {make}",
        str(folder): f"TFLM_DIR={folder} is no checkout of tflite-micro\n  fix: git clone {site}",
        str(tmp_path / "tflm"): f"TFLM_DIR holds no library for cortex-m4 with CMSIS-NN\n  fix: {make}",
    }
    write_tree(tmp_path / "tflm")
    for value, message in told.items():
        monkeypatch.setenv("TFLM_DIR", value)
        with pytest.raises(MissingTool) as caught:
            TFLM.build(artefact, "qemu", tmp_path)
        assert str(caught.value) == message


def arm_tree(folder: Path, need_tool: NeedTool, monkeypatch: pytest.MonkeyPatch) -> None:
    need_tool("qemu-system-arm")
    need_tool("arm-none-eabi-gcc")
    write_tree(folder, newer=True, arm=True)
    write_library(folder, "cortex_m_generic_cortex-m4_default_cmsis_nn_gcc", need_tool("arm-none-eabi-ar"))
    monkeypatch.setenv("TFLM_DIR", str(folder))


def test_with_tflm_dir_it_runs_under_qemu_sample_by_sample(
    tmp_path: Path, need_tool: NeedTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm_tree(tmp_path / "tflm", need_tool, monkeypatch)
    artefact = emit(copies(), tmp_path / "firmware")
    (tmp_path / "work").mkdir()
    program = TFLM.build(artefact, "qemu", tmp_path / "work")
    x = np.arange(-128, 128, dtype=np.int64).reshape(64, 2, 2, 1)
    done = TFLM.run(program, {"x": x})
    assert np.array_equal(done.outputs["y"], x.reshape(64, 4))
    figures = {one.name: one.value for one in (*done.resources, *TFLM.measure(program))}
    assert figures["arena"] == 8
    assert 20 < figures["instructions"] < 200
    assert figures["flash"] > (artefact.folder / "model.tflite").stat().st_size
    assert figures["static RAM"] > figures["arena on the board"]
    assert 0 < figures["stack"] < 512


def test_an_output_that_differs_under_qemu_is_seen(
    tmp_path: Path, need_tool: NeedTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm_tree(tmp_path / "tflm", need_tool, monkeypatch)
    header = tmp_path / "tflm" / "tensorflow/lite/micro/micro_interpreter.h"
    header.write_text(header.read_text().replace("= tensors_[0].data.int8[i];", "= tensors_[0].data.int8[i] | 1;"))
    ran = compile_and_run(emit(copies(), tmp_path / "firmware"))
    assert (ran.title, ran.samples, ran.values, ran.bit_exact) == ("TFLite-Micro on QEMU cortex-m4f", 8, 32, False)


def test_build_compile_says_what_ran(
    tmp_path: Path, need_tool: NeedTool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arm_tree(tmp_path / "tflm", need_tool, monkeypatch)
    fill(tmp_path / "graph", Bundle(to_files(copies())))
    words = ["edgeflow", "build", "graph", "--board", "nucleo-f446re", "--backend", "tflm", "--compile"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [*words, "-o", "firmware"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert re.search(r"TFLite-Micro on QEMU cortex-m4f +8 +0 of 32 values differ +\d+ instructions each", shown)
    monkeypatch.delenv("TFLM_DIR")
    monkeypatch.setattr("sys.argv", [*words, "-o", "other"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: TFLM_DIR is not set\n  fix: set TFLM_DIR to a checkout of")


def test_a_compiler_without_cxx_headers_is_told(
    tmp_path: Path, need_tool: NeedTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm_tree(tmp_path / "tflm", need_tool, monkeypatch)
    header = tmp_path / "tflm" / "tensorflow/lite/micro/micro_interpreter.h"
    header.write_text(header.read_text().replace("<cstddef>", "<nosuchheader>"))
    with pytest.raises(MissingTool) as caught:
        compile_and_run(emit(copies(), tmp_path / "firmware"))
    assert str(caught.value) == (
        "arm-none-eabi-gcc has no C++ library: <nosuchheader> is missing\n"
        "  fix: apt install libstdc++-arm-none-eabi-newlib"
    )


def test_a_core_without_an_emulated_board_gets_no_verification_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(qemu.MACHINES, Core.CORTEX_M33.qemu_machine)
    board = replace(BOARD, core=Core.CORTEX_M33)
    files = TFLM.emit(TFLM.adapt(copies(), board, TflmOptions()), board, TflmOptions()).files
    assert not [name for name in files if name.startswith("verify/")]


def test_a_core_that_is_no_arm_is_refused_before_anything_is_written() -> None:
    (found,) = TFLM.check(two_layers(), load_board("longan-nano"), TflmOptions())
    assert found.what == "backend tflm cannot make firmware for RV32IMAC yet"
    assert found.fix == "use backend c, or a board with a Cortex-M core"
