"""What binds a board later: only what was signed, and no more than reason allows."""

from __future__ import annotations

from tests.support.world import World, digest, owner, state_of

MOST = (1 << 53) - 1


def test_what_a_board_without_a_key_has_seen_does_not_bind_it_once_it_has_one(world: World) -> None:
    world.key = None
    old = world.release("1.0.0")
    world.flash(old)
    value = world.announcement(old.bundle.header, old.archive, published=MOST)
    world.put_channel(value)
    world.boot()
    world.until(lambda found: ".ota/state.0" in found.files)
    assert "published" not in state_of(world.stop())
    world.key = owner()
    world.board.write({"profile.json": world.profile().raw})  # by cable
    new = world.release("1.1.0")
    world.channel_file().unlink()  # iotctl would publish nothing after such a counter
    world.offer(new)
    world.start_and_update_to(new)
    assert digest(world.stop().files["profile.json"]) == digest(new.files["profile.json"])


def test_a_stolen_key_cannot_use_up_the_numbers(world: World) -> None:
    """The largest `published` and `sequence` that there are: refused; the owner's next release is taken."""
    old, far, new = world.release("1.0.0"), world.release("1.1.0", sequence=MOST), world.release("1.2.0")
    world.settled(old, new)
    world.put_channel(world.announcement(new.bundle.header, new.archive, published=MOST))
    world.refused("bad_channel")
    world.offer_raw(far.bundle.header, far.archive)
    world.refused("far_sequence")
    world.offer_raw(new.bundle.header, new.archive)
    world.update_to(new)
    world.assert_runs(new)
