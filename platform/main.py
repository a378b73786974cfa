# Starts the runtime, and never leaves the board at the REPL: whatever goes wrong is kept in /crash.log, told to the
# recovery loader, and followed by a restart.
import sys

_CRASH = "/crash.log"
_MAX_CRASH = 2000


def _tell_loader(error):
    """First of all: it is what brings the board back."""
    import ota_boot

    try:
        text = repr(error)[:200]
    except MemoryError:
        text = type(error).__name__
    if ota_boot.state == "trial":
        ota_boot.undo("exception", text)
    else:
        ota_boot.note_failure(text)


def _write_crash(error):
    import io

    class Tail(io.IOBase):
        """Keeps the end of what is written to it: the whole may not fit into memory."""

        data = b""

        def write(self, part):
            self.data = (self.data + bytes(part[-_MAX_CRASH:]))[-_MAX_CRASH:]
            return len(part)

    tail = Tail()
    sys.print_exception(error, tail)
    with open(_CRASH, "wb") as f:
        f.write(tail.data)


def _failed(error):
    import gc
    import time

    import machine

    gc.collect()
    try:
        sys.print_exception(error)
        _tell_loader(error)
        _write_crash(error)
    except Exception as another:  # a full disk, no memory: the restart must come all the same
        sys.print_exception(another)
    finally:
        time.sleep(2)
        machine.reset()


try:
    import gc

    import ota_boot

    if hasattr(ota_boot, "let_go"):  # an older loader has no timer
        ota_boot.let_go()  # from here on a hang is one
    gc.threshold(2_048)  # collect early while everything is loaded: what stays then lies close together (measured: see startup)
    from iot_platform.runtime import run

    run()
except KeyboardInterrupt:  # Ctrl-C at the console: a developer, who goes on typing; or noise on a line where nobody does
    import select

    import ota_boot
    from iot_platform.board import Board

    print("interrupted: type on within 5 s for the REPL, or the board restarts")
    ota_boot.feed()
    if hasattr(ota_boot, "hold"):  # an older loader has no such thing
        ota_boot.hold()
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    if not poll.poll(5_000):
        Board().reset()
    raise
except BaseException as error:
    _failed(error)
