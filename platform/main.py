# Starts the runtime, and never leaves the board at the REPL: whatever goes wrong is kept in /crash.log, told to the
# recovery loader, and followed by a restart.
import sys

_CRASH = "/crash.log"
_MAX_CRASH = 2000


def _write_crash(error):
    import io

    text = io.StringIO()
    sys.print_exception(error, text)
    with open(_CRASH, "w") as f:
        f.write(text.getvalue()[-_MAX_CRASH:])


def _failed(error):
    import time

    import machine
    import ota_boot

    sys.print_exception(error)
    try:
        _write_crash(error)
        if ota_boot.state == "trial":
            ota_boot.undo("exception", repr(error))
        else:
            ota_boot.note_failure(repr(error))
    finally:
        time.sleep(min(1 + ota_boot.failures, 10))
        machine.reset()


try:
    from iot_platform.runtime import run

    run()
except KeyboardInterrupt:  # Ctrl-C on the serial console: a developer wants the REPL
    raise
except BaseException as error:
    _failed(error)
