"""The other end of a serial line, as a test wants it: a thread that answers frames over a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import threading
from collections.abc import Callable
from types import TracebackType

from edgeflow.toolchain.serial_link import Decoder, Frame

Script = Callable[[Frame, int], bytes | None]
"""What a peer sends for the frame that it got, the how manieth it is (from 0); None: it pulls the plug."""


class Peer:
    """Answers on `device` as the script says. `heard` are the frames that came."""

    def __init__(self, script: Script, greeting: bytes = b"") -> None:
        self.heard: list[Frame] = []
        self._script = script
        self._master, self._slave = pty.openpty()
        self.device = os.ttyname(self._slave)
        self._greeting = greeting
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Peer:
        import tty

        tty.setraw(self._slave)
        os.write(self._master, self._greeting)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            os.close(self._slave)
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        decoder = Decoder(1 << 16)
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 4096):
                decoder.add(data)
                while (frame := decoder.next()) is not None:
                    answer = self._script(frame, len(self.heard))
                    self.heard.append(frame)
                    if answer is None:
                        os.close(self._master)
                        return
                    os.write(self._master, answer)
        os.close(self._master)
