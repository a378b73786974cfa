"""getaddrinfo() as a port has it, where that is not as the unix port has it: see sim/ports.py.

With SIMULATOR_DNS, a UDP port of this computer, that is the network's name server, and who takes part in multicast DNS. Names are
asked for there, and nothing else goes on meanwhile: for as long as the port's resolver waits for a silent server.
"""

import os
import select
import socket
import sys

_real = socket.getaddrinfo
_port = int(os.getenv("SIMULATOR_DNS") or 0)
_stream = os.getenv("SIMULATOR_PORT_SOCKTYPE_STREAM")
_silent_ms = int(os.getenv("SIMULATOR_PORT_DNS_SILENT_MS") or 5000)


class _Socket:
    """In the place of the module `socket`: a built-in one cannot be changed."""

    def __getattr__(self, name):
        return getattr(socket, name)

    def getaddrinfo(self, host, port, *more):
        if _port and port in (53, 5353):
            host, port = "127.0.0.1", _port
        elif _port and not all(c in "0123456789." for c in host):
            host = _ask(host)
        found = _real(host, port, *more)
        return [(a[0], socket.SOCK_STREAM) + tuple(a[2:]) for a in found] if _stream else found


def _ask(host):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        text = b"".join(bytes([len(part)]) + part.encode() for part in host.split("."))
        where = _real("127.0.0.1", _port)[0][-1]
        sock.sendto(b"\7\7\1\0\0\1\0\0\0\0\0\0" + text + b"\0\0\1\0\1", where)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        answer = sock.recv(512) if poll.poll(_silent_ms) else b""
    finally:
        sock.close()
    if len(answer) < 12 or not answer[7]:
        raise OSError(-2)
    return "%d.%d.%d.%d" % tuple(answer[-4:])


def install():
    sys.modules["socket"] = _Socket()
