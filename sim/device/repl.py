"""The raw REPL, as tools speak it over a serial line; the friendly one takes nothing but the way there and back.

See "Raw mode" in MicroPython's reference of the REPL. It has no raw-paste mode, and says so, as small ports do.
"""

import io
import select
import sys

import micropython

micropython.kbd_intr(3)  # from now on Ctrl-C, here SIGINT, is an exception
_code = b""
_raw = False
_poll = select.poll()
_poll.register(sys.stdin, select.POLLIN)
_names = {"__name__": "__main__"}


def look():
    """Take what has been sent."""
    while _poll.poll(0):
        byte = sys.stdin.buffer.read(1)
        if not byte:
            _poll.unregister(sys.stdin)
            return
        _take(byte)


def _take(byte):
    global _code, _raw
    if byte == b"\x01":
        _code, _raw = b"", True
        _say(b"raw REPL; CTRL-B to exit\r\n>")
    elif byte == b"\x02":
        _raw = False
        _say(b"\r\n>>> ")
    elif byte == b"\x04" and _raw:
        code, _code = _code, b""
        _run(code)
    elif _raw:
        _code += byte
        if _code == b"\x05A\x01":
            _code = b""
            _say(b"R\x00")


def _run(code):
    error = b""
    _say(b"OK")
    try:
        exec(code, _names)
    except Exception as failure:
        text = io.BytesIO()
        sys.print_exception(failure, text)
        error = text.getvalue()
    _say(b"\x04" + error + b"\x04>")


def _say(data):
    sys.stdout.buffer.write(data)
