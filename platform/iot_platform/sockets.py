"""Sockets without waiting: opening a connection (name, TCP, TLS), and calling a socket's methods. OTA, MQTT and wifi share it.

Every wait is a yield. Names are looked up with the name server that `name_server` tells of; where nothing does, and only there,
the firmware's resolver blocks for as long as it likes. What goes wrong is raised as `error(reason, message)`, the caller's own
class; reasons: dns connect timeout tls connection_lost. With `ca` (a file, PEM or DER) the server's certificate must be signed by
it and bear the host's name, and the board must know the time. Without, or with "not verified", TLS hides what is sent but proves
nothing.
"""

import binascii
import errno
import os
import select
import socket

from micropython import const

from .module import borrow

try:
    from time import ticks_diff, ticks_ms
except ImportError:  # CPython
    from time import monotonic

    def ticks_ms():
        return int(monotonic() * 1000)

    def ticks_diff(end, start):
        return end - start


try:
    import tls
except ImportError:
    try:
        import ssl as tls
    except ImportError:
        tls = None

SOON = 2  # what a generator yields that waits for a socket: true, so that a loop with other things to do goes on with them
_TEXT = {
    "connect": "no connection to the server",
    "timeout": "the server does not answer",
    "tls": "no secure connection to the server",
    "connection_lost": "the connection was lost",
}
_MAX_ADDRESSES = const(3)
_MAX_CA = const(8192)

# Called for the address of the network's name server: text, "" while there is no network. Whoever brings up the network sets it.
name_server = None
heard = False  # somebody was reached, or came: wifi asks
names = {}  # what is remembered of them: see the file names


def lookup(host, port, error):
    """The addresses of a host as getaddrinfo() has them, for connect(). Generator."""
    server = name_server and not (":" in host or all(c in b"0123456789." for c in host.encode())) and name_server()
    addresses = (host,)
    if server == "":
        raise error("dns", "the name %s cannot be looked up: there is no network" % host)
    if server and server != "0.0.0.0":
        addresses = yield from borrow("names", "find", host, server, error)
    try:  # for an address there is nothing to wait for
        return [a for host in addresses for a in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)][:_MAX_ADDRESSES]
    except OSError as failure:
        raise error("dns", "the name %s cannot be looked up: %s" % (host, failure))


def reach(host, port, check, error):
    """A socket that is connected to the host. A name that was remembered is asked for again if nobody answers. Generator.

    :param check: see connect().
    """
    remembered = host in names
    while True:
        addresses = yield from lookup(host, port, error)
        try:
            return (yield from connect(addresses, check, error))
        except error:
            if not names.pop(host, None) or not remembered:
                raise
            remembered = False


def connect(addresses, check, error):
    """A socket that is connected to the first address that answers. Generator.

    :param check: called with the ticks_ms at which this attempt began; raises when that is too long ago.
    """
    global heard
    for i, address in enumerate(addresses):
        sock = socket.socket(address[0], address[1])
        try:
            yield from _reach(sock, address[-1], check, error)
            found, sock, heard = sock, None, True
            return found
        except error as failure:
            if failure.reason != "connect" or i + 1 == len(addresses):
                raise
        finally:
            if sock:
                sock.close()


def _reach(sock, address, check, error):
    sock.setblocking(False)
    attempt(sock.connect, address, "connect", error)
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    since = ticks_ms()
    ready = poll.poll(0)
    while not ready:
        yield SOON
        check(since)
        ready = poll.poll(0)
    if ready[0][1] & (select.POLLERR | select.POLLHUP):
        raise error("connect", "the server refuses connections or cannot be reached")


def secure(sock, host, ca, error):
    """TLS over a connected socket; the handshake happens with the first write, which may have to be tried many times."""
    if tls is None:
        raise error("tls", "this firmware has no TLS")
    try:
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        if ca and ca != "not verified":  # see profile
            context.verify_mode = tls.CERT_REQUIRED
            _load(context, ca)
        else:
            if hasattr(context, "check_hostname"):
                context.check_hostname = False
            context.verify_mode = tls.CERT_NONE
        return context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except (OSError, ValueError) as failure:
        raise error("tls", "TLS cannot be set up, is the certificate file right? %s" % failure)


def _load(context, path):
    with open(path, "rb") as f:
        data = f.read(min(os.stat(path)[6], _MAX_CA))  # read() allocates what it is asked for
    for part in data.split(b"-----BEGIN CERTIFICATE-----")[1:] or (data,):
        der = part if part is data else binascii.a2b_base64(part.split(b"-----END")[0])
        if tls.__name__ == "tls":
            context.load_verify_locations(der)
        else:
            context.load_verify_locations(cadata=der)


def arrived(call, size):
    """What has come to a UDP socket, by one of its methods; None when nothing has."""
    try:
        return call(size)
    except OSError as failure:
        if failure.errno not in (errno.EAGAIN, errno.ETIMEDOUT):  # the second: what it is called on an older lwIP
            raise


def attempt(call, argument, reason, error):
    """The result of a socket's method, or None if it would block (MicroPython returns that, CPython raises it).

    :param reason: what a failure is called, unless the system says that it was a timeout or a certificate.
    """
    try:
        return call(argument)
    except OSError as failure:
        if failure.errno in (errno.EAGAIN, errno.EINPROGRESS) or type(failure).__name__.startswith("SSLWant"):  # CPython's in TLS
            return None
        if failure.errno == errno.ETIMEDOUT:
            reason = "timeout"
        raise error(reason, "%s: %s" % (_TEXT[reason], failure))
    except ValueError as failure:  # MicroPython's word for a certificate that is refused
        raise error("tls", "%s: %s" % (_TEXT["tls"], str(failure).strip()))
