"""Writes a board as the TOML text that the loader reads back as an equal board."""

from __future__ import annotations

import json
from collections.abc import Mapping

from edgeflow.board.model import Board, FpgaBoard, McuBoard


def board_text(board: Board) -> str:
    """A board file: `parse_board(board_text(board), board.name, ...) == board`."""
    top: dict[str, str | int] = {"kind": board.kind.value, "title": board.title, "chip": board.chip}
    tables: list[str] = []
    if isinstance(board, McuBoard):
        top |= {"core": board.core.value, "clock": f"{board.clock} Hz", "boot": board.boot.value}
        for region in board.memories:
            keys = {"name": region.name, "kind": region.kind.value, "origin": region.origin, "size": f"{region.size} B"}
            if region.note:
                keys["note"] = region.note
            tables.append(_table("[[memories]]", keys))
    if isinstance(board, FpgaBoard):
        top |= {"part": board.part, "family": board.family.value, "clock": f"{board.clock} Hz"}
        top |= {"luts": board.luts, "ffs": board.ffs, "dsps": board.dsps}
        top |= {"brams": board.brams, "bram_bits": board.bram_bits}
    if board.price is not None:
        top["price"] = board.price
    for figure, source in board.sources.items():
        tables.append(_table(f"[sources.{figure}]", {"kind": source.kind.value, "detail": source.detail}))
    return "\n".join([_table("", top), *tables])


def _table(header: str, keys: Mapping[str, str | int]) -> str:
    lines = [header] if header else []
    for key, value in keys.items():
        written = _string(value) if isinstance(value, str) else f"0x{value:08x}" if key == "origin" else str(value)
        lines.append(f"{key} = {written}")
    return "\n".join(lines) + "\n"


def _string(text: str) -> str:
    """A TOML basic string. JSON's escapes are TOML's; TOML forbids one more character to stand bare: DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
