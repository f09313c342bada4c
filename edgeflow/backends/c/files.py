"""The files of a model: a header and one source, or several sources that share a header of their own."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

from edgeflow.backends.c.emit import Emitted, shared_of


class Files(enum.Enum):
    """How many C files a model is written as."""

    ONE = "one"
    SPLIT = "split"


def model_files(emitted: Emitted, files: Files) -> dict[str, str]:
    """Name -> text: the public header first. All hold the same code and the same tables."""
    prefix = emitted.model.prefix
    header = {f"{prefix}.h": emitted.header}
    return header | ({f"{prefix}.c": emitted.source} if files is Files.ONE else _split(emitted))


def sources(texts: Iterable[str]) -> tuple[str, ...]:
    """Of the names of a model's files, those that are compiled."""
    return tuple(name for name in texts if name.endswith(".c"))


def _split(emitted: Emitted) -> dict[str, str]:
    """The order of calls, the functions of layers, their tables, and a header for these three."""
    prefix, shared = emitted.model.prefix, shared_of(emitted.kernels)
    records = {one.ctype for kernel in emitted.kernels for one in kernel.records}
    types = [one for one in shared if one.name in records]
    inner = [one for one in shared if one.name not in records]
    found = {
        f"{prefix}.c": emitted.text("c/split/run.c.j2"),
        f"{prefix}_kernels.c": emitted.text("c/split/kernels.c.j2", inner=inner),
        f"{prefix}_tables.c": emitted.text("c/split/tables.c.j2"),
        f"{prefix}_internal.h": emitted.text("c/split/internal.h.j2", types=types),
    }
    names = _seen_by_several(emitted)
    return {name: names.sub(rf"{prefix}_\g<0>", text) for name, text in found.items()}


def _seen_by_several(emitted: Emitted) -> re.Pattern[str]:
    """What one source defines and another one uses. The linker sees these names, so that the model's stands before."""
    functions = {one.name for one in emitted.functions.values()}
    constants = {one.name for kernel in emitted.kernels for one in (*kernel.tables, *kernel.records)}
    return re.compile(rf"(?<!\w)(?:{'|'.join(sorted(functions | constants))})(?!\w)")
