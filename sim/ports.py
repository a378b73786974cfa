"""What a MicroPython port and its board do differently from the unix port: one table, with its sources in docs/ports.md.

>>> Board(image, like="pico-w")

Each field reaches the board's process as an environment variable, ``SIMULATOR_PORT_`` and its name in capitals: numbers as they
are, True as ``1``, False and what is empty as an empty word, tuples and dicts as words with spaces between (``A=1 B=3``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

_ALL_CAUSES = {"PWRON_RESET": 1, "HARD_RESET": 2, "WDT_RESET": 3, "DEEPSLEEP_RESET": 4, "SOFT_RESET": 5}


@dataclass(frozen=True)
class Port:
    """A board as its port makes it.

    `restarts`: what machine.reset_cause() says after a start of each kind (see sim/board.py; ``hard`` is machine.reset()).
    """

    name: str
    board: str  # in sys.implementation
    platform: str = "linux"  # sys.platform
    chip: str = ""  # what mpy-cross calls its native code; the simulated board runs on another one
    flash: int = 2 * 1024 * 1024  # the file system's bytes, without the firmware
    heap: str = "128k"
    readsize: int = 32  # littlefs, as the port's own _boot.py or inisetup.py mounts it
    progsize: int = 32
    constants: Mapping[str, int] = field(default_factory=lambda: dict(_ALL_CAUSES))  # of `machine`
    restarts: Mapping[str, str] = field(
        default_factory=lambda: {
            "power": "PWRON_RESET",
            "brownout": "PWRON_RESET",
            "hard": "HARD_RESET",
            "watchdog": "WDT_RESET",
            "deepsleep": "DEEPSLEEP_RESET",
            "soft": "SOFT_RESET",
        }
    )
    wdt_max_ms: int = 0  # a longer one raises ValueError; 0: none is too long
    missing: tuple[str, ...] = ()  # modules that its firmware has not
    usb_after_boot: bool = False  # the console's USB starts after boot.py: what was printed before is lost
    dns_silent_ms: int = 0  # how long getaddrinfo() blocks for each DNS server that does not answer
    socktype_stream: bool = False  # getaddrinfo() says SOCK_STREAM whatever was asked for
    ap_security: tuple[int, ...] = (0, 2, 3, 4)  # what WLAN.config(security=) takes
    ap_password: str = ""  # of an access point that nobody gave one
    ap_name_before_active: bool = False  # WLAN.config(ssid=) of an access point has no effect once it is active
    ifconfig_needs_dns: bool = False  # WLAN.ifconfig() raises OSError where the name server is 0.0.0.0
    erase_us: int = 0  # of a sector of 4 KiB
    page_us: int = 0  # a program of 256 bytes
    read_ns: int = 0  # a call of the flash's readblocks(), and each byte that it brings
    read_byte_ns: int = 0
    tls_k: int = 0  # KiB of its heap that a TLS connection takes: docs/performance.md
    mips: int = 0  # instructions of MicroPython's 32-bit x86 build that take its CPU a microsecond; 0: not known

    @property
    def one(self) -> str:
        """It in a sentence: a pico-w, an esp32."""
        return f"{'an' if self.name[0] == 'e' else 'a'} {self.name}"

    def cause(self, restart: str) -> int:
        """What machine.reset_cause() returns after a start of this kind."""
        return self.constants[self.restarts.get(restart, "PWRON_RESET")]

    def environment(self) -> dict[str, str]:
        return {f"SIMULATOR_PORT_{f.name.upper()}": _words(getattr(self, f.name)) for f in fields(self)}


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={its}" for name, its in value.items())
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return ("1" if value else "") if isinstance(value, bool) else str(value)


_UNIX = Port("unix", "MicroPython's unix port")
# watchdog_reboot() is how machine.reset() and deepsleep() are done, so all of them read as the watchdog's
_RP2_RESTARTS = {"power": "PWRON_RESET", "brownout": "PWRON_RESET", "soft": "PWRON_RESET"} | dict.fromkeys(
    ("hard", "watchdog", "deepsleep"), "WDT_RESET"
)
_PICO = Port(
    "pico",
    "Raspberry Pi Pico with RP2040",
    platform="rp2",
    chip="armv6m",
    flash=1408 * 1024,
    heap="228k",
    progsize=256,
    constants={"PWRON_RESET": 1, "WDT_RESET": 3},
    restarts=_RP2_RESTARTS,
    wdt_max_ms=8388,
    missing=("network", "socket", "requests", "mip"),  # and tls, which the unix port does not let go of
    usb_after_boot=True,
    erase_us=45_000,
    page_us=400,
    read_ns=8_000,
    read_byte_ns=40,
    tls_k=21,
    mips=66,
)
_PICO_W = replace(
    _PICO,
    name="pico-w",
    board="Raspberry Pi Pico W with RP2040",
    flash=848 * 1024,
    heap="188k",
    missing=(),
    dns_silent_ms=7000,
    socktype_stream=True,
    ap_security=(0, 0x00200002, 0x00400004, 0x00400006),
    ap_password="picoW123",
    ap_name_before_active=True,
)
_ESP32 = Port(
    "esp32",
    "Generic ESP32 module with ESP32",
    platform="esp32",
    chip="xtensawin",
    heap="144k",
    ap_security=(0, 1, 2, 3, 4, 5, 6, 7, 8),
    ifconfig_needs_dns=True,
    erase_us=45_000,
    page_us=400,
)
PORTS = {port.name: port for port in (_PICO, _PICO_W, _ESP32, _UNIX)}
