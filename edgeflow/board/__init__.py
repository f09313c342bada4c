"""Boards: what a target has, read from one validated TOML file each."""

from edgeflow.board.cores import Core
from edgeflow.board.loader import all_boards, board_files, load_board, parse_board, read_board
from edgeflow.board.model import Board, BoardKind, Boot, McuBoard, Region, RegionKind

__all__ = [
    "Board",
    "BoardKind",
    "Boot",
    "Core",
    "McuBoard",
    "Region",
    "RegionKind",
    "all_boards",
    "board_files",
    "load_board",
    "parse_board",
    "read_board",
]
