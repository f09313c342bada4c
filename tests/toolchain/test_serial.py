"""Frames over a serial line: found in noise, damaged ones never taken, every failure of the port named."""

from __future__ import annotations

import errno
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import EdgeflowError
from edgeflow.toolchain.serial_link import Decoder, Fault, Frame, Link, NoAnswer, encode
from edgeflow.toolchain.serial_port import Disconnected, SerialPort
from tests.toolchain.board_peer import Peer, Script

FRAMES = st.builds(Frame, st.sampled_from("HRSnr"), st.integers(0, 255), st.binary(max_size=40))
HELLO = Frame("h", 1, b"hello")


def decoded(data: bytes, pieces: int = 1) -> list[Frame]:
    decoder = Decoder(64)
    found: list[Frame] = []
    for start in range(0, len(data), max(1, pieces)):
        decoder.add(data[start : start + max(1, pieces)])
        while (frame := decoder.next()) is not None:
            found.append(frame)
    return found


def test_a_frame_is_these_bytes() -> None:
    assert encode(Frame("R", 7, b"\x01\x02")).hex(" ") == "65 46 52 07 02 00 00 00 92 8c 9d 83 01 02 92 42 cc b6"
    assert len(encode(Frame("H", 0, b""))) == 12


@given(st.lists(FRAMES, max_size=4), st.binary(max_size=30), st.integers(1, 20))
def test_frames_are_found_behind_any_noise_and_however_they_are_cut(
    frames: list[Frame], noise: bytes, pieces: int
) -> None:
    data = b"".join(noise + encode(frame) for frame in frames)
    assert decoded(data, pieces) == frames


@given(FRAMES, st.data())
def test_a_changed_bit_is_never_taken(frame: Frame, data: st.DataObject) -> None:
    content = bytearray(encode(frame))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    assert decoded(bytes(content)) == []


def test_a_frame_behind_a_cut_one_is_found() -> None:
    assert decoded(encode(Frame("r", 1, bytes(30)))[:20] + bytes(64) + encode(HELLO)) == [HELLO]


def test_a_length_beyond_all_reason_is_noise() -> None:
    decoder = Decoder(4)
    decoder.add(encode(HELLO) + encode(Frame("h", 2, b"ok")))
    assert decoder.next() == Frame("h", 2, b"ok")


def answer(frame: Frame, payload: bytes = b"yes") -> bytes:
    return encode(Frame(frame.kind.lower(), frame.sequence, payload))


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "script",
    [
        lambda frame, number: answer(frame),
        lambda frame, number: b"" if number == 0 else answer(frame),
        lambda frame, number: flipped(answer(frame)) if number == 0 else answer(frame),
        lambda frame, number: encode(Frame("n", frame.sequence, b"\1")) if number == 0 else answer(frame),
        lambda frame, number: answer(Frame("H", frame.sequence - 1 & 0xFF, b""), b"old") + answer(frame),
        lambda frame, number: b"Booting ...\r\neF" + answer(frame),
    ],
    ids=["at once", "lost once", "damaged once", "refused once", "behind a late one", "behind noise"],
)
def test_a_question_is_answered(script: Script) -> None:
    with Peer(script) as peer, SerialPort(peer.device, 115200) as port:
        link = Link(port, 16)
        assert link.ask("H", b"who", 3, 0.4) == b"yes"
        assert link.retries == len(peer.heard) - 1


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (lambda frame, number: b"", Fault.SILENT),
        (lambda frame, number: b"what? " * 3, Fault.NOISE),
        (lambda frame, number: flipped(answer(frame)), Fault.DAMAGED),
        (lambda frame, number: encode(Frame("n", frame.sequence, b"\2")), Fault.REFUSED),
    ],
)
def test_what_went_wrong_three_times_is_told(script: Script, fault: Fault) -> None:
    with Peer(script) as peer, SerialPort(peer.device, 115200) as port, pytest.raises(NoAnswer) as raised:
        Link(port, 16).ask("H", b"", 3, 0.1)
    assert raised.value.fault is fault
    assert len(peer.heard) == 3


def test_a_board_that_is_unplugged_is_told() -> None:
    with (
        Peer(lambda frame, number: None) as peer,
        SerialPort(peer.device, 115200) as port,
        pytest.raises(Disconnected) as raised,
    ):
        Link(port, 16).ask("H", b"", 3, 2)
    assert str(raised.value) == f"{peer.device}: the serial port is gone\n  fix: plug the board in, and run it again"


def refusal(device: str, baud: int = 115200) -> str:
    with pytest.raises(EdgeflowError) as raised:
        SerialPort(device, baud)
    return str(raised.value)


def test_a_port_that_is_not_there_is_told(tmp_path: Path) -> None:
    told = refusal(str(tmp_path / "ttyACM0"))
    start = f"{tmp_path / 'ttyACM0'}: there is no such serial port\n  fix: plug the board in; serial ports here: "
    assert told.startswith(start)


def test_a_file_is_no_serial_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert refusal(str(tmp_path / "file")).startswith(f"{tmp_path / 'file'}: is no serial port\n  fix: serial ports")


@pytest.fixture
def device() -> Iterator[str]:
    """A port at which nobody answers."""
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_a_baud_rate_that_cannot_be_is_told(device: str) -> None:
    assert refusal(device, -1) == f"{device}: no baud rate of this port: -1\n  fix: --baud 115200"


def test_a_busy_port_is_told(device: str) -> None:
    with SerialPort(device, 115200):
        assert refusal(device) == (
            f"{device}: another program has this serial port open\n  fix: close it: a terminal, or a debugger's console"
        )


def test_a_forbidden_port_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "Serial", forbidden)
    monkeypatch.setenv("USER", "ada")
    assert refusal("/dev/none") == (
        "/dev/none: you may not open this serial port\n  fix: sudo usermod -a -G dialout ada, then log in again"
    )
