"""A user's checkout of tflite-micro: where it is, the library made in it, and programs linked with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeflow.errors import MissingTool
from edgeflow.toolchain import gcc
from edgeflow.toolchain.process import Limits, check, run

VARIABLE = "TFLM_DIR"
_INTERPRETER = Path("tensorflow/lite/micro/micro_interpreter.h")
_DOWNLOADS = Path("tensorflow/lite/micro/tools/make/downloads")
_LIBRARY = "libtensorflow-microlite.a"
_WHERE = "https://github.com/tensorflow/tflite-micro"
_COMPILE = ("-O2", "-ffunction-sections", "-fdata-sections", "-DTF_LITE_STATIC_MEMORY")
_COMPILE_CXX = ("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics")
_LINK = ("-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs", "-Wl,--gc-sections")
_FLOAT = {"+fp": "-mfloat-abi=hard", "+sfp": "-mfloat-abi=softfp"}


@dataclass(frozen=True)
class Microlite:
    """A checkout, and the library in it that was made for a core."""

    folder: Path
    library: Path

    @property
    def cmsis(self) -> bool:
        """Whether CMSIS-NN is in it."""
        return "cmsis_nn" in str(self.library.relative_to(self.folder))

    @property
    def includes(self) -> tuple[Path, ...]:
        """Where its headers, and those that they include, lie."""
        downloads = self.folder / _DOWNLOADS
        return (self.folder, downloads / "flatbuffers" / "include", downloads / "gemmlowp")


def make_arguments(cpu: str, *, cmsis: bool) -> str:
    """What tflite-micro's Makefile is told for a core, with a space behind it."""
    kernels = "OPTIMIZED_KERNEL_DIR=cmsis_nn " if cmsis else ""
    return f"TARGET=cortex_m_generic TARGET_ARCH={cpu} {kernels}"


def find(cpu: str, *, cmsis: bool) -> Microlite:
    """The checkout that TFLM_DIR names, and its library for a core. Raises MissingTool with what to set or make."""
    make = (
        f"make -C ${VARIABLE} -f tensorflow/lite/micro/tools/make/Makefile {make_arguments(cpu, cmsis=cmsis)}microlite"
    )
    named = os.environ.get(VARIABLE)
    if not named:
        fix = f"set {VARIABLE} to a checkout of {_WHERE} in which you ran {make}"
        raise MissingTool(f"{VARIABLE} is not set", fix=fix)
    folder = Path(named).absolute()
    if not (folder / _INTERPRETER).is_file():
        raise MissingTool(f"{VARIABLE}={named} is no checkout of tflite-micro", fix=f"git clone {_WHERE}")
    libraries = sorted((folder / "gen").glob(f"*/**/{_LIBRARY}"))
    for one in libraries:
        made_for = one.relative_to(folder / "gen").parts[0]
        if f"_{cpu}_" in made_for.replace("+fp", "").replace("+sfp", "") and ("cmsis_nn" in made_for) == cmsis:
            return Microlite(folder, one)
    kernels = "CMSIS-NN" if cmsis else "the reference kernels"
    raise MissingTool(f"{VARIABLE} holds no library for {cpu} with {kernels}", fix=make)


def compile_program(
    microlite: Microlite, sources: Sequence[Path], include: Path, script: Path, output: Path, core_flags: Sequence[str]
) -> Path:
    """Compiles and links a bare-metal program. Raises MissingTool, ToolFailed, or DoesNotFit as `compile_image`."""
    abi = next((flag for mark, flag in _FLOAT.items() if mark in str(microlite.library)), "")
    core = (*core_flags, *((abi,) if abi else ()))
    defined = ("-DCMSIS_NN",) if microlite.cmsis else ()
    system = [part for one in microlite.includes for part in ("-isystem", str(one))]
    flags = (*core, *_COMPILE, *defined, *system)
    objects: list[Path] = []
    for source in sources:
        made = output.with_name(f"{source.name}.o")
        language = _COMPILE_CXX if source.suffix == ".cc" else ()
        objects.append(gcc.compile_object(source, include, made, (*flags, *language)))
    runtime = _runtime(core)
    return gcc.compile_image([*objects, microlite.library, *runtime], include, script, output, (*core, *_LINK))


def _runtime(core: Sequence[str]) -> list[Path]:
    """The C++ library for the core, if the compiler has one."""
    asked = run([gcc.ARM.path(), *core, "-print-file-name=libstdc++.a"], Limits(seconds=30))
    path = Path(check(asked, "the compiler does not answer").stdout.decode().strip())
    return [path] if path.is_absolute() else []
