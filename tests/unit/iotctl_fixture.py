"""A small checkout, profile and key for the tests of iotctl: real files, but few, so that a build takes no time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from typer.testing import CliRunner, Result

from iotctl import keys
from iotctl.cli import app

FILES = {
    "platform/boot.py": "import ota_boot\n",
    "platform/ota_boot.py": "state = ''\n",
    "platform/main.py": "print('main')\n",
    "platform/iot_platform/__init__.py": "",
    "platform/iot_platform/runtime.py": "def run():\n    pass\n",
    "modules/door/__init__.py": "from .hinge import Hinge\n",
    "modules/door/hinge.py": "class Hinge:\n    angle = 90\n",
    "modules/door/www/index.html": "<p>door</p>\n",
    "modules/door/tests/test_hinge.py": "never on a board\n",
    "modules/door/requires.txt": "squeak  # for its sound\n",
    "modules/gate/__init__.py": "not active, and not even Python\n",
    "modules/ota/__init__.py": "",
    ".packages/squeak/__init__.py": "LOUD = 11\n",
}
PROFILE = {
    "shortName": "Door-1",
    "activeModules": ["door", "ota"],
    "ota": {"url": "http://127.0.0.1:8070", "tmp_filename": "new.tar.gz", "excluded_files": [], "delete": ["old.py"]},
}


@dataclass(frozen=True)
class Place:
    """A folder with a checkout `src`, whose `profile.json` pins `key.pem`, and `other.pem`, which nothing pins."""

    root: Path

    @property
    def profile(self) -> Path:
        return self.source / "profile.json"

    @property
    def key(self) -> Path:
        return self.root / "key.pem"

    @property
    def source(self) -> Path:
        return self.root / "src"

    def change(self, **sections: object) -> None:
        """Give the profile other sections."""
        value = json.loads(self.profile.read_text())
        self.profile.write_text(json.dumps({**value, **sections}))

    def change_ota(self, **settings: object) -> None:
        """Change the profile's ``ota`` section; None takes a key out."""
        ota = {**json.loads(self.profile.read_text())["ota"], **settings}
        self.change(ota={name: value for name, value in ota.items() if value is not None})

    def build(self, *extra: object, version: str = "1.4.0", out: str = "dist") -> Result:
        args = ["build", self.profile, "--version", version, "--out", self.root / out]
        return run(*args, *extra)

    def built(self, version: str = "1.4.0") -> Path:
        """A signed bundle."""
        result = self.build("--key", self.key, version=version)
        assert result.exit_code == 0, result.output
        return self.root / "dist" / f"{version}.tar.gz"

    def snapshot(self) -> dict[str, bytes]:
        """Every file, to see that nothing was written."""
        return {str(p.relative_to(self.root)): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}


@cache
def key(number: int) -> keys.PrivateKey:
    """One of the tests' keys: making one takes a second."""
    return keys.generate()


def make_place(root: Path) -> Place:
    """A fresh Place in `root`."""
    place = Place(root)
    for path, text in FILES.items():
        target = place.source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    keys.write_private(key(0), place.key, None)
    keys.write_private(key(1), root / "other.pem", None)
    place.profile.write_text(json.dumps(PROFILE))
    place.change_ota(public_keys=[keys.jwk(key(0))])
    return place


def run(*args: object) -> Result:
    """`iotctl` with these arguments."""
    return CliRunner().invoke(app, [str(arg) for arg in args])
