"""No private key in any tree, bundle, image or log: iotctl is run as its users run it, with their keys beside the sources."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from iotctl import ROOT, keys
from sim.board import Board
from tests.support import forge, private

_PATIENCE_S = 240
_MODULES = ["serial_log", "wifi", "ota", "lamp"]
_LAMP = """from iot_platform.module import Module as Base

class Module(Base):
    name = "lamp"
"""
PASSPHRASE = "a rather long passphrase"


@dataclass
class Checkout:
    """A copy of this checkout with a module of its owner's, and all that iotctl has printed there."""

    folder: Path
    said: list[str] = field(default_factory=list)

    def iotctl(self, *words: str, code: int = 0, **environment: str) -> str:
        """Run a command in the checkout, as README does; what it printed last."""
        command = [sys.executable, "-m", "iotctl", *words]
        env = {**os.environ, "IOTCTL_PASSPHRASE": "", **environment}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=_PATIENCE_S)
        self.said.append(done.stdout + done.stderr)
        assert done.returncode == code, (words, self.said[-1])
        return self.said[-1]

    def boot(self) -> None:
        """`iotctl sim`: makes an image, and a board runs from it until its modules do."""
        command = [sys.executable, "-m", "iotctl", "sim", "door.json", "--image", "board.img", "--wifi", "off"]
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, cwd=self.folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as board:
            assert board.stdin and board.stdout
            for line in board.stdout:
                self.said.append(line)
                if "could not join" in line:  # by then every module has told its values
                    board.stdin.write("values\n")
                    board.stdin.flush()
                if "version = " in line:
                    board.send_signal(signal.SIGINT)
            assert board.wait(_PATIENCE_S) == 0, "".join(self.said)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for name in ("iotctl", "sim", "platform", "modules", "lib"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".packages", ".micropython"):
        (tmp_path / name).symlink_to((ROOT / name).resolve())
    (tmp_path / "modules" / "lamp" / "tests").mkdir(parents=True)
    (tmp_path / "modules" / "lamp" / "__init__.py").write_text(_LAMP)
    profile = json.loads((ROOT / "profile.json").read_text())
    (tmp_path / "door.json").write_text(json.dumps({**profile, "activeModules": _MODULES}))
    return Checkout(tmp_path)


def test_no_private_key_gets_from_beside_the_sources_into_a_tree_a_bundle_an_image_or_the_log(checkout: Checkout) -> None:
    """Two keys, one of them with a passphrase, wherever a file is not part of a release."""
    folder = checkout.folder
    checkout.iotctl("keygen", "owner.pem", "--profile", "door.json")
    checkout.iotctl("keygen", "second.pem", "--profile", "door.json", IOTCTL_PASSPHRASE=PASSPHRASE)
    for path in ("platform/owner.pem", "modules/owner.pem", "modules/lamp/tests/owner.pem", "modules/lamp/.owner.pem"):
        shutil.copy(folder / "owner.pem", folder / path)
    shutil.copy(folder / "second.pem", folder / "lib" / "second.pem")
    for version in ("1.0.0", "1.1.0"):
        (folder / "modules" / "lamp" / "level.txt").write_text(version)
        checkout.iotctl("build", "door.json", "--version", version, "--key", "owner.pem", "--out", "dist")
        checkout.iotctl("publish", f"dist/{version}.tar.gz", "site", "--key", "owner.pem", "--legacy")
    checkout.iotctl("sign", "dist/1.1.0.tar.gz", "--key", "second.pem", IOTCTL_PASSPHRASE=PASSPHRASE)
    checkout.iotctl("verify", "dist/1.1.0.tar.gz", "--key", "second.pem", IOTCTL_PASSPHRASE=PASSPHRASE)
    checkout.iotctl("inspect", "dist/1.1.0.tar.gz")
    checkout.iotctl("tree", "door.json", "board", "--version", "1.1.0")
    checkout.iotctl("flash", "--profile", "door.json", "--version", "1.1.0", "--dry-run", "--json")
    checkout.iotctl("build", "door.json", "--version", "1.2.0", "--key", "door.json", "--out", "dist", code=1)
    checkout.iotctl("build", "door.json", "--version", "1.2.0", "--key", "second.pem", "--out", "dist", code=1)
    checkout.boot()
    places = {"what was printed": "".join(checkout.said).encode()}
    for name in ("dist", "site", "board", ".build"):
        places.update(private.below(folder / name))
    image = folder / "board.img"
    places.update({"the image": image.read_bytes(), "the board's counters": Path(f"{image}.counters").read_bytes()})
    places.update({f"on the board: {path}": data for path, data in Board(image).read().files.items()})
    names = " ".join(places)
    assert all(word in names for word in ("site/sim-board/stable.json", "1.1.0.tar.gz: .release", "1.1.0-legacy.tar.gz"))
    assert "on the board: modules/lamp/level.txt" in places and b"lamp" in places["what was printed"]
    secrets = [keys.read_private(folder / "owner.pem"), keys.read_private(folder / "second.pem", PASSPHRASE)]
    protected = (folder / "second.pem").read_bytes()
    found = {path: parts for path, data in places.items() if (parts := private.parts(data, secrets, [protected]))}
    assert not found
    assert not [path for path in places if "owner.pem" in path or "second.pem" in path]


def test_a_private_key_among_the_sources_ends_every_command_that_would_hand_it_on(checkout: Checkout) -> None:
    folder, key = checkout.folder, checkout.folder / "modules" / "lamp" / "owner.pem"
    checkout.iotctl("keygen", str(key), "--profile", "door.json")
    for words in (
        ("build", "door.json", "--version", "1.0.0", "--key", str(key), "--out", "dist"),
        ("build", "door.json", "--version", "1.0.0", "--unsigned", "--py", "--out", "dist"),
        ("tree", "door.json", "board", "--version", "1.0.0"),
        ("flash", "--profile", "door.json", "--version", "1.0.0"),
        ("sim", "door.json", "--image", "board.img"),
    ):
        said = checkout.iotctl(*words, code=1)
        assert said == f"iotctl: {key} holds a private key, which every board would get: move it out of the release\n"
    assert not any((folder / name).exists() for name in ("dist", "board", "board.img"))
    secret = keys.read_private(key)
    places = {"what was printed": "".join(checkout.said).encode(), **private.below(folder / ".build")}
    assert not {path: parts for path, data in places.items() if (parts := private.parts(data, [secret]))}


def test_the_search_finds_a_key_in_every_form(tmp_path: Path) -> None:
    secret, pem, safe = forge.key(1), tmp_path / "key.pem", tmp_path / "safe.pem"
    keys.write_private(secret, pem, None)
    keys.write_private(secret, safe, PASSPHRASE)
    body = pem.read_bytes().split(b"\n", 1)[1].rsplit(b"-----END", 1)[0]
    d = secret.private_numbers().d
    jwk = base64.urlsafe_b64encode(d.to_bytes(384, "big"))
    lines = body.splitlines()
    for form in (pem.read_bytes(), body, base64.b64decode(body), b"%x" % d, b"%d" % d, jwk, b"\n".join(lines[-6:-4])):
        assert private.parts(b"x" + form + b"x", [secret]), form
    hidden = safe.read_bytes().split(b"\n", 1)[1].rsplit(b"-----END", 1)[0]
    for form in (hidden, base64.b64decode(hidden), b"\n".join(hidden.splitlines()[9:11])):
        assert private.parts(b"x" + form, [secret], [safe.read_bytes()]) == ["file 0"]
    assert not private.parts(json.dumps(keys.jwk(secret)).encode() + keys.sign(secret, b""), [secret], [safe.read_bytes()])
    packed = forge.pack(forge.listing({"k": body}), {"k": body}, secret)
    assert not private.parts(packed, [secret])
    found = private.unpacked("x.tar.gz", packed)
    assert private.parts(found["x.tar.gz: k"], [secret]) and set(found) == {"x.tar.gz", *(f"x.tar.gz: {n}" for n in NAMES)}


NAMES = (".release", ".release.sig", "k")
