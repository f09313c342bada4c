"""The command line where memory is the question: a board that is too small, RAM over time."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Command


def test_check_of_a_board_that_is_too_small_says_no_and_names_the_layer(
    edgeflow: Command, student: Path, data: Path
) -> None:
    board = data / "boards" / "tiny-1k.toml"
    answer = edgeflow("check", student, "--board", board)
    assert answer.code == 1
    assert "DOES NOT FIT   RAM is " in answer.out
    assert "layers that cost most" in answer.out
    assert re.search(r"'conv1' +RAM +1 KiB   image 40 B \+ .* \+ scratch 116 B alive together", answer.out)
    assert re.search(
        r"'pool1' +RAM +1 KiB   image 24 B \+ conv1_act 512 B \+ pool1 384 B \+ .* alive together", answer.out
    )
    assert re.search(r"halve the channels of 'conv1' +RAM 1.4 KiB +train to know", answer.out)
    assert "a larger board: stm32f103c8" in answer.out
    found = edgeflow("check", student, "--board", board, "--json")
    assert (found.code, found.json["fits"], found.json["certain"]) == (1, False, True)
    assert found.json["costly"][0]["layer"] == "conv1"


def test_build_prints_the_map_of_ram_over_time(edgeflow: Command, student: Path, tmp_path: Path) -> None:
    answer = edgeflow("build", student, "--board", "rpi-pico", "-o", tmp_path / "fw")
    assert answer.code == 0
    written, head, *layers = answer.out.splitlines()
    assert written == f"wrote {tmp_path / 'fw'}"
    assert re.fullmatch(r"  RAM over time +alive   of an arena of [\d,]+ B", head)
    bars = [one for one in layers if one.endswith(("#", " peak"))]
    assert len([one for one in bars if one.endswith(" peak")]) == 1
    assert all(len(one) <= 80 for one in (head, *bars))
    assert "  alive at the peak, in '" in answer.out
    found = edgeflow("build", student, "--board", "rpi-pico", "-o", tmp_path / "fw", "--force", "--json").json["memory"]
    assert [one["layer"] for one in found["moments"]] == [one.split()[0] for one in bars]
    assert found["lower_bound"] <= max(one["used"] for one in found["moments"]) <= found["size"]


def test_build_for_a_board_that_is_too_small_stops_with_the_map(
    edgeflow: Command, student: Path, data: Path, tmp_path: Path
) -> None:
    board = data / "boards" / "tiny-1k.toml"
    answer = edgeflow("build", student, "--board", board, "-o", tmp_path / "fw")
    assert answer.code == 1
    order = ["RAM over time", " peak\n", "alive at the peak, in '", "DOES NOT FIT   RAM is ", "halve the channels of"]
    places = [answer.out.index(one) for one in (*order, "a larger board: stm32f103c8")]
    assert places == sorted(places)
    assert answer.out.endswith(f"  nothing was written to {tmp_path / 'fw'}\n")
    assert not (tmp_path / "fw").exists()
    found = edgeflow("build", student, "--board", board, "-o", tmp_path / "fw", "--json")
    assert (found.code, found.json["path"], found.json["fits"]) == (1, None, False)
    assert found.json["memory"]["moments"]
