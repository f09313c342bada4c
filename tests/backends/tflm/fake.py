"""A tree that looks like a checkout of tflite-micro: its interpreter logs calls and copies its input to its output."""

from __future__ import annotations

import subprocess
from pathlib import Path

MAKE = "tensorflow/lite/micro/tools/make"
LIBRARY = "libtensorflow-microlite.a"
_KERNELS = (
    "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED AVERAGE_POOL_2D MAX_POOL_2D ADD MUL SOFTMAX RESHAPE"  # with INT8 ...
    " PAD PADV2 MAXIMUM MINIMUM SUB CONCATENATION TRANSPOSE STRIDED_SLICE QUANTIZE LOGISTIC TANH GATHER"
    " TRANSPOSE_CONV RESIZE_NEAREST_NEIGHBOR"
)
_WITH_INT8 = 8

_SCHEMA = """#pragma once
#include <cstdint>
#define TFLITE_SCHEMA_VERSION 3
namespace tflite {
struct Model { uint32_t version() const { return FAKE_VERSION; } };
inline const Model* GetModel(const void* data) {
  static Model model;
  static const void* volatile kept;
  kept = data;
  return &model;
}
}
"""
_RESOLVER = """#pragma once
#include "fake_log.h"
NAMESPACE_OPEN
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
struct TFLMRegistration { const char* name; };
REGISTRATIONS
template <unsigned int tOpCount> struct MicroMutableOpResolver {
  static_assert(tOpCount > 0, "no operators");
  unsigned int count = 0;
  TfLiteStatus add(const TFLMRegistration& one) {
    fake_log(one.name);
    return ++count > tOpCount || fake_fails("resolver") ? kTfLiteError : kTfLiteOk;
  }
METHODS};
NAMESPACE_CLOSE
"""
_INTERPRETER = """#pragma once
#include <cstddef>
#include <cstdint>
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"
NAMESPACE_OPEN
struct TfLiteTensor { union { int8_t* int8; int16_t* i16; void* data; } data; size_t bytes; };
struct MicroInterpreter {
  template <class R> MicroInterpreter(const tflite::Model*, const R&, uint8_t* arena, size_t size)
      : arena_(arena), size_(size) {}
  TfLiteStatus AllocateTensors() {
    fake_log("AllocateTensors");
    if (size_ < 2 * FAKE_BYTES || fake_fails("arena")) return kTfLiteError;
    for (size_t i = 0; i < 2; ++i) {
      tensors_[i].data.data = arena_ + i * FAKE_BYTES;
      tensors_[i].bytes = FAKE_BYTES + fake_fails("tensors");
    }
    return kTfLiteOk;
  }
  TfLiteStatus Invoke() {
    fake_log("Invoke");
    if (++invoked_ > FAKE_INVOKES) return kTfLiteError;
    for (size_t i = 0; i < FAKE_BYTES; ++i) {
      tensors_[1].data.int8[i] = tensors_[0].data.int8[i];
      tensors_[0].data.int8[i] = 99;
    }
    return kTfLiteOk;
  }
  TfLiteTensor* input(size_t) { return &tensors_[0]; }
  TfLiteTensor* output(size_t) { return &tensors_[1]; }
  size_t arena_used_bytes() const { return 2 * FAKE_BYTES; }
 private:
  uint8_t* arena_;
  size_t size_;
  int invoked_ = 0;
  TfLiteTensor tensors_[2] = {};
};
NAMESPACE_CLOSE
"""
_HOST_LOG = """#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
inline void fake_log(const char* what) { puts(what); }
inline bool fake_fails(const char* what) {
  const char* named = getenv("FAKE_FAILS");
  return named != nullptr && strcmp(named, what) == 0;
}
#define FAKE_VERSION (fake_fails("schema") ? 2u : 3u)
#define FAKE_BYTES @BYTES@u
#define FAKE_INVOKES 2
"""
_ARM_LOG = """#pragma once
inline void fake_log(const char*) {}
inline bool fake_fails(const char*) { return false; }
#define FAKE_VERSION 3u
#define FAKE_BYTES @BYTES@u
#define FAKE_INVOKES 1000000
"""
_STANDARD = {
    "cstdint": "#pragma once\n#include <stdint.h>\n",
    "cstddef": "#pragma once\n#include <stddef.h>\n",
    "cmath": "#pragma once\n#include <math.h>\nnamespace std { using ::nearbyintf;\n"
    "inline float nearbyint(float x) { return ::nearbyintf(x); } }\n",
}


def method(kernel: str) -> str:
    """The resolver's method for an operator: `AddConv2D` for `CONV_2D`."""
    words = kernel.replace("PADV2", "PAD_V2").split("_")
    return "Add" + "".join(word.capitalize() if not word[0].isdigit() else word for word in words)


def write_tree(folder: Path, *, size: int = 4, newer: bool = False, arm: bool = False) -> None:
    """The headers. `size` bytes are in its input and output; `newer` declares all in tflite::micro.

    `arm` gives it the C++ headers that the compiler for Arm may not have, and takes the log away.
    """
    opened = "namespace tflite {\nnamespace micro {" if newer else "namespace tflite {"
    closed = "}\n}" if newer else "}"
    registrations = methods = ""
    for number, kernel in enumerate(_KERNELS.split()):
        names = [kernel, f"{kernel}_INT8"] if number < _WITH_INT8 else [kernel]
        registrations += "".join(
            f'inline TFLMRegistration Register_{one}() {{ return {{"{one}"}}; }}\n' for one in names
        )
        signature = f"const TFLMRegistration& one = Register_{kernel}()"
        methods += f"  TfLiteStatus {method(kernel)}({signature}) {{ return add(one); }}\n"
    log = (_ARM_LOG if arm else _HOST_LOG).replace("@BYTES@", str(size))
    files = {
        "fake_log.h": log,
        "tensorflow/lite/schema/schema_generated.h": _SCHEMA.replace("#include", '#include "fake_log.h"\n#include', 1),
        "tensorflow/lite/micro/micro_mutable_op_resolver.h": _RESOLVER.replace("REGISTRATIONS", registrations),
        "tensorflow/lite/micro/micro_interpreter.h": _INTERPRETER,
    }
    if arm:
        files |= {f"{MAKE}/downloads/flatbuffers/include/{name}": text for name, text in _STANDARD.items()}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("METHODS", methods).replace("NAMESPACE_OPEN", opened).replace("NAMESPACE_CLOSE", closed)
        path.write_text(text)


def write_library(folder: Path, made_for: str, ar: str) -> Path:
    """An empty library where tflite-micro's Makefile puts its own."""
    library = folder / "gen" / made_for / "lib" / LIBRARY
    library.parent.mkdir(parents=True)
    subprocess.run([ar, "rcs", library], check=True)
    return library
