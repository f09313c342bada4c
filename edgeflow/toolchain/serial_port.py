"""A serial port (pyserial): opened for us alone, read and written with deadlines, its failures named."""

from __future__ import annotations

import errno
import grp
import os
import time
from pathlib import Path
from typing import Protocol, cast

from edgeflow.errors import EdgeflowError

_TICK = 0.05
"""Seconds that one read waits at most, so that Ctrl-C and a deadline are seen soon."""


class _Device(Protocol):
    """What is used of pyserial's `Serial`."""

    in_waiting: int

    def read(self, size: int) -> bytes: ...
    def write(self, data: bytes) -> int | None: ...
    def close(self) -> None: ...


class Disconnected(EdgeflowError):
    """The device vanished while it was open."""

    def __init__(self, device: str) -> None:
        super().__init__("the serial port is gone", where=device, fix="plug the board in, and run it again")


class SerialPort:
    """An open serial port. `device` is its path, `baud` its bits per second. Use it in a `with` statement.

    Opening raises EdgeflowError for a port that is missing, forbidden, busy or none at all.
    """

    def __init__(self, device: str, baud: int) -> None:
        self.device = device
        self.baud = baud
        self._port = _open(device, baud)

    def __enter__(self) -> SerialPort:
        return self

    def __exit__(self, *_: object) -> None:
        self._port.close()

    def seconds(self, size: int) -> float:
        """How long so many bytes take: ten bits each."""
        return 10 * size / self.baud

    def read(self, deadline: float) -> bytes:
        """What has arrived, at least a byte; nothing once `time.monotonic()` has reached the deadline.

        Raises EdgeflowError when the device is gone.
        """
        try:
            while time.monotonic() < deadline:
                found = self._port.read(max(1, self._port.in_waiting))
                if found:
                    return found
        except OSError:
            raise Disconnected(self.device) from None
        return b""

    def write(self, data: bytes) -> None:
        """Hands all bytes to the device. Raises EdgeflowError when it is gone, or takes none for a long time."""
        from serial import SerialTimeoutException

        try:
            self._port.write(data)
        except SerialTimeoutException:
            raise EdgeflowError(
                "the serial port takes no more data",
                where=self.device,
                fix="switch flow control off in the adapter, or give the board's own port",
            ) from None
        except OSError:
            raise Disconnected(self.device) from None


def _open(device: str, baud: int) -> _Device:
    import termios

    from serial import Serial

    try:
        port = Serial(device, baud, timeout=_TICK, write_timeout=30, exclusive=True)
    except ValueError:
        raise EdgeflowError(f"no baud rate of this port: {baud}", where=device, fix="--baud 115200") from None
    except (OSError, termios.error) as error:
        raise _refused(device, error) from None
    return cast(_Device, port)


def _refused(device: str, error: Exception) -> EdgeflowError:
    code = getattr(error, "errno", None)
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return EdgeflowError("there is no such serial port", where=device, fix=f"plug the board in; {_ports()}")
    if code in (errno.EACCES, errno.EPERM):
        return EdgeflowError("you may not open this serial port", where=device, fix=_group(device))
    if code in (errno.EBUSY, errno.EAGAIN):
        return EdgeflowError(
            "another program has this serial port open",
            where=device,
            fix="close it: a terminal, or a debugger's console",
        )
    return EdgeflowError("is no serial port", where=device, fix=_ports())


def _ports() -> str:
    from serial.tools import list_ports

    found = sorted(one.device for one in list_ports.comports())
    return f"serial ports here: {', '.join(found) if found else 'none'}"


def _group(device: str) -> str:
    """How to be let in: by the group that owns the device, `dialout` on most systems."""
    try:
        name = grp.getgrgid(Path(device).stat().st_gid).gr_name
    except (OSError, KeyError):
        name = "dialout"
    return f"sudo usermod -a -G {name} {os.environ.get('USER', '$USER')}, then log in again"
