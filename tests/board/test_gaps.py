"""The loop goes on through everything that an update does, and through everything that a hostile bundle makes a board do.

Between two ticks of another module lies the processor time of this board's process, so that nothing else that the machine does
is counted: what a board computes and writes without a pause. What it waits for is bounded in seconds: see the wall clock below.
"""

from __future__ import annotations

from tests.support import figures, forge
from tests.support.world import PATIENCE_S, World, assert_tree, owner

MODULES = ("serial_log", "wifi", "ota", "pulse")
# ota.tick() works for 10 ms, and what it has begun then ends: a signature, a flash operation, a collection of the heap. The
# same 60 ms are the target of `make bench` for a full update.
MOST_MS = 60
_WAITED_MS = 2_500  # of the wall clock: shorter than every deadline, long enough for a machine that has much else to do
_PULSE = """from iot_platform.module import Module as Base
import time

def _clock():
    return int(time.clock() * 1_000_000)  # microseconds of this process

class Module(Base):
    name = "pulse"

    def start(self):
        self.last = None
        self.begin()

    def begin(self):
        self.ticks = self.longest = self.waited = 0
        self.where = ""

    def tick(self):
        now, wall = _clock(), time.ticks_ms()
        if self.last is not None:
            self.ticks += 1
            self.waited = max(self.waited, time.ticks_diff(wall, self.wall))
            if now - self.last > self.longest:
                self.longest = now - self.last
                self.where = self.platform.module("ota").state
        self.last, self.wall = _clock(), wall

    def on_command(self, command):
        if command.path == "pulse":
            self.tell()
            self.begin()

    def stop(self):
        self.tell()

    def tell(self):
        self.platform.log("pulse:", self.ticks, "ticks, longest", self.longest, "us in", self.where, "waited", self.waited, "ms")
"""
CODE = {"modules/pulse/__init__.py": _PULSE.encode()}
_FILES = {"a.py": b"1\n", "version": b"1.1.0\n"}


def bombs() -> dict[str, tuple[bytes, str]]:
    """Archives of some KB that unpack to megabytes, or have a list as long as there can be; and why each is refused."""
    zeros = bytes(8_000_000)
    true = forge.Forgery(_FILES)
    many = forge.Forgery({f"www/{n:04}.txt": b"x" for n in range(4_500)})
    large = forge.Forgery({"a.py": zeros, "version": b"1.1.0\n"})
    longer = forge.Forgery(_FILES)
    longer.groups[0].packed = [forge.gzip(forge.tar_member("a.py", b"1\n") + zeros)]
    endless = forge.Forgery(_FILES)
    endless.groups[0].packed = [forge.START + b"\0\0\0\xff\xff" * 3_000]
    for forged in (longer, endless):
        forged.place()
    return {
        "a list of zeros": (headed(bytes(1 << 20), true), "bad_signature"),
        "a list of empty objects": (headed(b"{}\n" * 340_000), "bad_bundle"),
        "a list that is too long": (headed(zeros), "too_large"),
        "a list of 4,500 files": (headed(many.listing), "no_space"),
        "a header with a long text": (headed(b'{"a":"%s"}\n' % (b"x" * 4000)), "bad_bundle"),
        "a signature": (forge.pack_members([(".release", true.listing), (".release.sig", zeros)], _FILES), "bad_signature"),
        "a file that is announced": (large.pack(owner()), "no_space"),
        "what is behind a file": (longer.pack(owner()), "bad_bundle"),
        "blocks without a byte": (endless.pack(owner()), "bad_bundle"),
    }


def headed(listed: bytes, signed: forge.Forgery | None = None) -> bytes:
    """A bundle whose list is this, signed by the owner; or with the signature of another one's."""
    other = forge.head(signed.listing, owner())[1:] if signed else forge.head(listed, owner())[1:]
    return forge.pack_members([(".release", listed), *other], _FILES)


def test_the_loop_goes_on_through_bombs_and_huge_lists(world: World) -> None:
    world.board.size = 2 * 1024 * 1024  # a list of a megabyte is read to its end
    old = world.release("1.0.0", CODE, modules=MODULES)
    world.flash(old)
    world.offer(old)
    world.boot()
    longest = 0.0
    for what, (packed, reason) in bombs().items():
        assert len(packed) < 300_000, what
        world.offer_raw({"version": "1.1.0", "sequence": 1_001_000, "size": len(packed)}, packed)
        world.type("pulse")
        world.refused(reason)
        longest = max(longest, gap(world, world.type("pulse")))
    figures.note("longest gap of the loop in a bomb", f"{longest:.1f} ms of processor time")
    # What may have been damaged on the way is fetched again: what was right of it stays.
    assert_tree(world.stop().without(".ota/stage", ".ota/list"), old.tree)


def test_the_loop_goes_on_through_a_whole_update(world: World) -> None:
    """Check, download, verification, stage, commit, and in the new version trial, confirmation and clean-up."""
    old = world.release("1.0.0", {**CODE, "www/a.txt": b"a" * 60_000}, modules=MODULES)
    new = world.release("1.1.0", {**CODE, "www/a.txt": bytes(range(256)) * 240, "www/b.txt": b"b" * 9000}, modules=MODULES)
    world.settled(old, new)
    world.type("pulse")
    since = world.update_to(new)
    committed = world.board.lines.index(world.board.expect("ota: committed: installing 1.1.0", since=since).string)
    before = gap(world, committed)  # the module tells it when it is stopped for the restart
    after = gap(world, world.type("pulse"))
    figures.note("longest gap of the loop in an update", f"{before:.1f} ms of processor time, {after:.1f} ms in the trial")
    world.assert_runs(new)


def gap(world: World, since: int) -> float:
    """The longest one of the pulse's next report, in ms of processor time: never long, and the pulse went on."""
    found = world.board.expect(r"pulse: (\d+) ticks, longest (\d+) us in (\w*) waited (\d+) ms", PATIENCE_S, since)
    ticks, longest, waited = int(found[1]), int(found[2]) / 1000, int(found[4])
    assert ticks >= 2, found.string
    assert longest < MOST_MS, found.string
    assert waited < _WAITED_MS, found.string
    return longest
