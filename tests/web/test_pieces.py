"""A heap in pieces: enough free memory for the server by its sum, but not in one place."""

from __future__ import annotations

import pytest

from tests.support.world import PATIENCE_S
from tests.web.conftest import LAMP, MODULES, WebWorld

_HOG = b'''
import gc

from iot_platform.module import Module as Base

class Module(Base):
    """Fills the heap with pieces of a size, then gives back every other one."""

    name = "hog"

    def on_command(self, command):
        if command.path == "hog":
            size, self.kept = int(command.payload), [None] * 800
            n = 0
            try:
                while True:
                    self.kept[n] = bytearray(size)
                    n += 1
            except MemoryError:
                for i in range(0, n, 2):
                    self.kept[i] = None
            gc.collect()
            self.platform.log("hogs", n, "free", self.platform.board.mem_free())
'''


@pytest.mark.parametrize(("piece", "status"), [(220, 503), (400, 200)], ids=["sent away", "served"])
def test_whoever_asks_gets_an_answer(web_world: WebWorld, piece: int, status: int) -> None:
    world = web_world
    made = world.release("1.0.0", {**LAMP, "modules/hog/__init__.py": _HOG}, modules=(*MODULES, "lamp", "hog"))
    world.start(made)
    since = world.type(f"hog {piece}")
    free = int(world.board.expect(r"hogs \d+ free (\d+)", PATIENCE_S, since)[1])
    assert free > 30_000, "more than the server takes"
    client = world.client(login=False)
    answers = [client.get("/api/session") for _ in range(20)]
    assert {(answer.status, answer.json.get("error")) for answer in answers} == {(status, "no_memory" if status == 503 else None)}
    assert {client.get("/").status for _ in range(5)} == {status}
