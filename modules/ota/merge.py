"""A delta's list and the list of what runs: together they are the complete list of the new version.

1. The kept list is that of the version from which the delta starts.
2. What the delta lets go was there, and what it changes is spelled as it was.
3. Every file that it leaves alone is on flash as the kept list has it, but for those that updates never touch.
4. The complete list is in order, and its digest is the `tree` that was signed.

So a board ends with exactly what the full bundle would have given it; where a rule is broken it takes that one.
"""

import hashlib

import ota_boot

from . import files, paths
from .errors import OtaError
from .kept import RUNNING, read_header
from .lines import tree_line
from .pairs import complete


def check(header, excluded, view, whole=False):
    """Rules 1 to 4 for the delta whose list is ``/.ota/list``. Generator; OtaError ``wrong_base`` when one is broken.

    :param whole: True when rule 3 was found kept a moment ago, and not every file need be read again.
    """
    running = read_header(RUNNING)
    if not running or running.get("version") != header["base"]:
        raise OtaError("wrong_base", "there is no list of version %s, from which the bundle starts" % header["base"])
    tree = hashlib.sha256()
    previous = None
    for entry, changed in complete():
        path = entry["path"]
        paths.check_order(previous, path)
        previous = path
        tree.update(tree_line(entry))
        if not (changed or whole or paths.skips(path, excluded)):
            if not (yield from files.same(ota_boot.live(path), entry["size"], entry["sha256"], view)):
                raise OtaError("wrong_base", "%s is not as version %s has it" % (path, header["base"]))
        yield
    if files.hexdigest(tree) != header["tree"]:
        raise OtaError("wrong_base", "the list of what runs is not the one from which the bundle starts")
