"""Reading a bundle: everything that a release must be is checked here, in constant memory.

A bundle is a gzip-compressed ustar archive: ``.release``, ``.release.sig``, then the files in the order of the list. It is read
in three phases, each with its own code, so that a board never needs memory for all of them at once:

1. head: ``.release`` is copied to ``/.ota/list`` while it is hashed; nothing of it is believed before its signature is right,
   and that is checked when the archive is closed again.
2. listing: the header must be for this board (policy), the entries in order, their ``tree`` digest as announced.
   merge, for a delta: its base must be what is on this board's flash, and the two lists together have that digest.
3. members: from the archive's beginning again. Each member must be the regular file that the list has in that place, with its
   size and its digest. After the last file there is the end of the archive, and nothing else.

A `visitor` sees what is being read and may write it: see stage.Stage.
"""


def read(open_stream, rules, view, visitor=None, forget=None):
    """Check the whole bundle, and let `visitor` take from it. Generator; returns the header.

    :param open_stream: a generator that opens the archive from its beginning, and returns an inflate.Gzip.
    :param rules: rules.Rules, what this board accepts.
    :param forget: called between the phases, to give back the memory of the one before.
    """
    forget = forget or _keep
    head = yield from _head(open_stream, view)
    header = yield from _begin(head, rules, view, visitor, forget)
    yield from _members(open_stream, rules, view, visitor)
    return header


def plan(open_stream, rules, view, visitor, forget):
    """Read and check only the list, and let `visitor` find out what it needs. Generator; returns the header."""
    head = yield from _head(open_stream, view)
    return (yield from _begin(head, rules, view, visitor, forget))


def again(rules, view, visitor, forget):
    """Check what an earlier read() has staged, without the archive. Generator; returns the header."""
    head = yield from _staged(view)
    return (yield from _begin(head, rules, view, visitor, forget))


def _begin(head, rules, view, visitor, forget):
    """From the list's digest and signature to a visitor that knows what it wants. Generator; returns the header."""
    yield  # what lies on the stack keeps the decompressor until the next step
    forget()
    if rules.keys:
        _check_signature(head, rules)
        yield
        forget()
    header = yield from _listing(rules, forget)
    forget()
    if header["base"] is not None:
        yield from _merge(header, rules, view)
        forget()
    if visitor:
        yield from visitor.begin(header, head[0], head[1])
        forget()
    return header


def _check_signature(head, rules):
    from . import sign

    sign.check(head[0], head[1], rules.keys, rules.room)


def _staged(view):
    from . import head

    return (yield from head.again(view))


def _head(open_stream, view):
    found = None
    while not found:  # a second time at most: see head.read
        with (yield from open_stream()) as stream:
            from . import head

            found = yield from head.read(stream, view)
    return found


def _listing(rules, forget):
    from . import listing

    return (yield from listing.check(rules, forget))


def _merge(header, rules, view):
    from . import merge

    yield from merge.check(header, rules.excluded, view, header["tree"] == rules.whole)


def _members(open_stream, rules, view, visitor):
    with (yield from open_stream()) as stream:
        from . import members

        yield from members.read(stream, rules.excluded, view, visitor)
        yield from stream.finish()


def _keep():
    """Where memory is no question."""
