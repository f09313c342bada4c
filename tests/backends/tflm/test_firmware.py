"""The sources around the model: the array is the file, the program compiles, names from a model are harmless."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edgeflow.backends.tflm.backend import TflmOptions
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.tflm.conftest import BOARD, TFLM, emit
from tests.backends.tflm.graphs import random_tflm_graph
from tests.conftest import NeedTool

STRICT = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-pedantic", "-Werror")
HEADERS = {
    "tensorflow/lite/schema/schema_generated.h": """
#pragma once
#include <cstdint>
#define TFLITE_SCHEMA_VERSION 3
namespace tflite {
struct Model { uint32_t version() const { return 3; } };
inline const Model* GetModel(const void*) { static Model model; return &model; }
}
""",
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": """
#pragma once
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
#define TF_LITE_ENSURE_STATUS(a) do { const TfLiteStatus s = (a); if (s != kTfLiteOk) return s; } while (false)
namespace tflite {
template <unsigned int tOpCount> struct MicroMutableOpResolver {
  static_assert(tOpCount > 0, "no operators");
METHODS};
}
""",
    "tensorflow/lite/micro/micro_interpreter.h": """
#pragma once
#include <cstddef>
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"
struct TfLiteTensor { union { int8_t* int8; float* f; } data; };
namespace tflite {
struct MicroInterpreter {
  template <class R> MicroInterpreter(const Model*, const R&, uint8_t*, size_t) {}
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteStatus Invoke() { return kTfLiteOk; }
  TfLiteTensor* input(size_t) { static TfLiteTensor one; return &one; }
  TfLiteTensor* output(size_t) { static TfLiteTensor one; return &one; }
};
}
""",
}
METHODS = (
    "AddConv2D AddDepthwiseConv2D AddFullyConnected AddAveragePool2D AddMaxPool2D AddReshape AddPad AddPadV2"
    " AddMaximum AddMinimum"
)


def write_headers(folder: Path) -> None:
    methods = "".join(f"  TfLiteStatus {name}() {{ return kTfLiteOk; }}\n" for name in METHODS.split())
    for name, text in HEADERS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("METHODS", methods))


@pytest.mark.parametrize("seed", range(6))
def test_the_program_and_the_array_compile_without_a_warning(seed: int, tmp_path: Path, need_tool: NeedTool) -> None:
    gcc, gxx = need_tool("gcc"), need_tool("g++")
    emit(random_tflm_graph(seed), tmp_path)
    write_headers(tmp_path / "tflm")
    include = ("-isystem", str(tmp_path / "tflm"))
    subprocess.run(
        [gxx, "-std=c++17", *STRICT, *include, "-c", tmp_path / "main.cc", "-o", tmp_path / "m.o"], check=True
    )
    subprocess.run([gcc, "-std=c11", *STRICT, "-c", tmp_path / "model_data.c", "-o", tmp_path / "d.o"], check=True)


def test_the_project_builds_with_cmake_and_a_users_tflm_dir(tmp_path: Path, need_tool: NeedTool) -> None:
    cmake, ar = need_tool("cmake"), need_tool("ar")
    emit(random_tflm_graph(1), tmp_path)
    write_headers(tmp_path / "tflm")
    library = tmp_path / "tflm" / "gen" / "any" / "lib" / "libtensorflow-microlite.a"
    library.parent.mkdir(parents=True)
    subprocess.run([ar, "rcs", library], check=True)
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
    assert re.findall(r"resolver\.(\w+)\(\)", text) == ["AddMaxPool2D", "AddReshape", "AddFullyConnected"]


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
    write_headers(tmp_path / "tflm")
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
