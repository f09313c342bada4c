"""Reads many files as the reader would, one forked child a file: `python -I many.py READER FOLDER`.

Where there is a FOLDER/<n>.weights, <n>.bin is an architecture. Beside each FOLDER/<n>.bin it leaves <n>.out (what
the reader prints) or <n>.bad (why it failed). A crash, a hang or too much memory leaves neither: the caller treats
that as the guarded child's death.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import sys
from pathlib import Path

SECONDS, MEMORY = 5, 2 << 30


def main(reader: str, folder: str) -> None:
    spec = importlib.util.spec_from_file_location("reader", reader)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for source in sorted(Path(folder).glob("*.bin")):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(SECONDS)
        try:
            weights = source.with_suffix(".weights")
            given = (source.read_bytes(), weights.read_bytes() if weights.exists() else None)
            source.with_suffix(".out").write_bytes(module.read(*given))
        except Exception as error:  # noqa: BLE001 - the reader's main() catches the same
            source.with_suffix(".out").unlink(missing_ok=True)
            source.with_suffix(".bad").write_text(f"{type(error).__name__}: {error}", errors="replace")
        os._exit(0)


main(*sys.argv[1:])
