"""How many blocks a file takes: what an update asks of the disk is littlefs' own sum, neither more nor less."""

from __future__ import annotations

import pytest

from iotctl import boards
from modules.ota.install import files


def counted(size: int, block: int) -> int:
    """As littlefs lays a file out: block n, but the first, begins with as many pointers as n has trailing zero bits, and one."""
    n = 0
    while size > 0:
        size -= block - (4 * (n & -n).bit_length() if n else 0)
        n += 1
    return max(n, 1)


@pytest.mark.parametrize("block", [512, 4096])
def test_the_blocks_of_a_file_are_littlefs_own(block: int) -> None:
    edges = {n * block + d for n in range(64) for d in range(-300, 300)} | set(range(0, 8 * 1024 * 1024, 50_021))
    assert [size for size in sorted(edges) if size >= 0 and files.blocks(size, block) != counted(size, block)] == []


@pytest.mark.parametrize(("size", "count"), [(0, 0), (128, 0), (129, 1), (4096, 1), (4097, 2), (8188, 2), (8189, 3), (12_280, 4)])
def test_the_computer_counts_them_as_a_board_does(size: int, count: int) -> None:
    assert boards.file_blocks(size) == count
