"""The bench's comparison: updates as public-micropython-iot-platform's ota.py does it, written anew after its method.

One line says what is current; the whole tar.gz goes to flash, then every member over the file that is there, 512 bytes
at a time, while everything else waits. Nothing is checked, and a power cut leaves a mixed tree.
"""

import os

from iot_platform.module import Module as Base

_ARCHIVE = "/firmware.tar.gz"
_PIECE = 512


class Module(Base):
    name = "overwrite"

    def on_command(self, command):
        if command.path == "overwrite":
            self.platform.bus.publish("ota/status", "checking")
            self._begin = True

    def start(self):
        self._begin = False

    def tick(self):
        if self._begin:
            self._begin = False
            try:
                self._update()
            except Exception as error:
                self.platform.log("overwrite: failed:", repr(error))

    def _update(self):
        import requests

        url = self.platform.profile["ota"]["url"] + "/" + self.platform.profile["shortName"].lower() + "/"
        version, name = requests.get(url + "latest").text.split(";")[:2]
        self.platform.log("overwrite: version", version)
        self._fetch(requests.get(url + name).raw)
        self._unpack()
        os.remove(_ARCHIVE)
        self.platform.log("overwrite: done")
        self.platform.request_reset("updated")

    def _fetch(self, raw):
        with open(_ARCHIVE, "wb") as f:
            while part := raw.read(_PIECE):
                f.write(part)

    def _unpack(self):
        import tarfile

        import deflate

        with open(_ARCHIVE, "rb") as packed:
            archive = tarfile.TarFile(fileobj=deflate.DeflateIO(packed, deflate.GZIP))
            for member in archive:
                if member.name.endswith("/"):
                    self._folder(member.name[:-1])
                else:
                    self._file(member.name, archive.extractfile(member))

    def _folder(self, path):
        try:
            os.mkdir(path)
        except OSError as error:
            if error.errno != 17:  # EEXIST
                raise

    def _file(self, path, member):
        with open(path, "wb") as f:
            while part := member.read(_PIECE):
                f.write(part)
