"""TFLite-Micro's C++ structures as lists of fields, and the bytes that a compiler gives them.

The fields are those of tensorflow/lite/micro (micro_allocator.h, micro_common.h, builtin_op_data.h, kernels/*.h), as of
2026. With them the arenas of both models in benchmarks/baselines come out to the byte, with the reference kernels and
with CMSIS-NN.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeflow.board import Core


class Kernels(enum.Enum):
    """Which implementation of the operators is linked."""

    REFERENCE = "reference"
    CMSIS_NN = "cmsis-nn"


class Extension(enum.Enum):
    """What CMSIS-NN finds in a core: its kernels want other scratch memory with each."""

    NONE = "none"
    DSP = "DSP"
    HELIUM = "Helium"


_EXTENSIONS = {
    Core.CORTEX_M0: Extension.NONE,
    Core.CORTEX_M0PLUS: Extension.NONE,
    Core.CORTEX_M3: Extension.NONE,
    Core.CORTEX_M55: Extension.HELIUM,
}


def extension_of(core: Core) -> Extension:
    """The core's extension. (The Cortex-M33's DSP instructions are optional; chips on boards have them.)"""
    return _EXTENSIONS.get(core, Extension.DSP)


@dataclass(frozen=True)
class Abi:
    """Bytes of a pointer (and of size_t), and of an enumeration that declares no type.

    Fields of a structure are letters: `p` pointer or size_t, `i` 32 bits, `d` 64 bits, `b` one byte, `e` enumeration.
    """

    pointer: int
    enumeration: int

    def size(self, fields: str) -> int:
        """sizeof."""
        end = 0
        for one in fields:
            width = self._width(one)
            end = round_up(end, width) + width
        return round_up(end, self.alignment(fields))

    def alignment(self, fields: str) -> int:
        """alignof."""
        return max((self._width(one) for one in fields), default=1)

    def _width(self, letter: str) -> int:
        return {"p": self.pointer, "i": 4, "d": 8, "b": 1, "e": self.enumeration}[letter]


ARM = Abi(pointer=4, enumeration=1)
"""arm-none-eabi, whose enumerations are as short as their values allow (AAPCS)."""


def round_up(size: int, to: int) -> int:
    """The next multiple."""
    return -(-size // to) * to


EVAL_TENSOR = "ppe"
NODE = "ppppppip"
TENSOR = "epiipppeeb"
QUANTIZATION = "ppi"
SCRATCH_REQUEST = "pii"
ALLOCATION_INFO = "ppiiib"
PLANNED_BUFFER = "iiiiiiiiii"
"""What GreedyMemoryPlanner keeps of a buffer while it plans."""
REQUESTS = 12
"""Scratch requests that each operator may make (kMaxScratchBuffersPerOp)."""


@dataclass(frozen=True)
class Kept:
    """What an operator keeps: its options as parsed, and its kernel's own data, with more of it in CMSIS-NN's.

    `lists` counts the int32 lists with an entry a channel; `lists_of_scales` those that only several scales call for.
    """

    options: str = ""
    data: str = ""
    cmsis: str = ""
    lists: int = 0
    lists_of_scales: int = 0


_WINDOW = "iiii" + "iii" + "ii" + "pp" + "ii" + "i"
_POOL = Kept("eiiiieiiii", "i" * 8, "i")
KEPT: Mapping[str, Kept] = {
    "CONV_2D": Kept("eiieiie", _WINDOW, "i", lists=2),
    "DEPTHWISE_CONV_2D": Kept("eiiieii", _WINDOW, "i", lists=2),
    "TRANSPOSE_CONV": Kept("eiiee", "i" * 24, lists=2),
    "FULLY_CONNECTED": Kept("eebbe", "iippb" + "i" * 7, "iipiii", lists_of_scales=2),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "SOFTMAX": Kept("i", "d" + "i" * 7 + "p" * 5, "ii"),
    "ADD": Kept("eb", "b" + "i" * 14),
    "SUB": Kept("eb", "b" + "i" * 12),
    "MUL": Kept("e", "i" * 9),
    "MAXIMUM": Kept(),
    "MINIMUM": Kept(),
    "LOGISTIC": Kept("", "i" * 4),
    "TANH": Kept("", "i" * 4),
    "QUANTIZE": Kept("", "d" + "i" * 6),
    "RESHAPE": Kept("i" * 9),
    "PAD": Kept("", "i" * 14),
    "PADV2": Kept("", "i" * 14),
    "STRIDED_SLICE": Kept("iiiiib", "i" * 21),
    "TRANSPOSE": Kept(),
    "RESIZE_NEAREST_NEIGHBOR": Kept("bb"),
    "CONCATENATION": Kept("ie", "i" * 20),
    "GATHER": Kept("ii", "iii"),
}
"""By the operator's name in the schema. Data of one letter alone is known by its size, not field by field."""
OTHER = Kept("i" * 10, "i" * 24)
"""An operator that `KEPT` does not have: as much as the largest of them."""


@dataclass(frozen=True)
class Build:
    """A build of TFLite-Micro. `more` holds further options and data of its operators, by name, none by default."""

    kernels: Kernels
    extension: Extension = Extension.DSP
    abi: Abi = ARM
    allocators: tuple[str, ...] = ("ppppppppi", "piippppiipb", "pppppbppp", "pp", "pp")
    more: Mapping[str, Kept] = field(default_factory=dict[str, Kept])

    def kept(self, code: str) -> Kept:
        """What an operator keeps in this build."""
        one, more = KEPT.get(code, OTHER), self.more.get(code, Kept())
        cmsis = one.cmsis if self.kernels is Kernels.CMSIS_NN else ""
        data = one.data + cmsis + more.data
        return Kept(one.options + more.options, data, "", one.lists, one.lists_of_scales)
