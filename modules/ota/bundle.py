"""Reading a bundle: everything that a release must be is checked here, in constant memory.

A bundle is a gzip-compressed ustar archive: ``.release``, ``.release.sig``, then the files in the order of the list. It is read
in three phases, each with its own code, so that a board never needs memory for all of them at once:

1. head: ``.release`` is copied to ``/.ota/list`` while it is hashed; nothing of it is believed before its signature is right.
2. listing: the header must be for this board (policy), the entries in order, their ``tree`` digest as announced.
3. members: from the archive's beginning again. Each member must be the regular file that the list has in that place, with its
   size and its digest. After the last file there is the end of the archive, and nothing else.

A `visitor` sees what is being read and may write it: see stage.Stage.
"""


def read(open_stream, rules, view, visitor=None, forget=None):
    """Check the whole bundle, and let `visitor` take from it. Generator; returns the header.

    :param open_stream: a function that opens the archive from its beginning: an inflate.Gzip.
    :param rules: rules.Rules, what this board accepts.
    :param forget: called between the phases, to give back the memory of the one before.
    """
    forget = forget or _keep
    digest, signature = yield from _head(open_stream, rules.keys, view)
    forget()
    header = yield from _listing(rules)
    forget()
    if visitor:
        yield from visitor.begin(header, digest, signature)
        forget()
    yield from _members(open_stream, view, visitor)
    return header


def _head(open_stream, keys, view):
    with open_stream() as stream:
        from . import head

        return (yield from head.read(stream, keys, view))


def _listing(rules):
    from . import listing

    return (yield from listing.check(rules))


def _members(open_stream, view, visitor):
    with open_stream() as stream:
        from . import members

        yield from members.read(stream, view, visitor)


def _keep():
    """Where memory is no question."""
