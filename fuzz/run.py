"""`make fuzz`: every target for a minute with atheris, which follows the branches of the code. New findings go to .build/fuzz/.

make fuzz ARGS="--seconds 600 bundle listing"
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]
ATHERIS = "atheris==3.0.0"
NAMES = ("bundle", "listing", "archive", "journal", "profile", "channel", "latest")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz with atheris.")
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = set(args.targets) - set(NAMES)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}: they are {', '.join(NAMES)}")
    if args.inside:
        fuzz(args.targets[0], args.seconds)
    if not install():
        return 1
    failed = [name for name in args.targets or NAMES if not run(name, args.seconds)]
    print("fuzz: " + (f"FAILED: {', '.join(failed)}; the inputs are in .build/fuzz/" if failed else "no failure"))
    return 1 if failed else 0


def install() -> bool:
    """atheris is not in requirements.lock: it has no wheels for ARM and macOS, and only this needs it."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:", ATHERIS]
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            print(
                "fuzz: atheris cannot be installed here: it needs Linux on x86-64, CPython 3.11 to 3.13 and PyPI.",
                file=sys.stderr,
            )
            return False
    return True


def run(name: str, seconds: int) -> bool:
    """One target in a process of its own; its last words are printed."""
    found = ROOT / ".build" / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--inside", "--seconds", str(seconds), name]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    (found.parent / f"{name}.log").write_text(done.stdout)
    lines = done.stdout.splitlines()
    if done.returncode:
        print("\n".join(lines[-40:]))
    runs = [line.split()[1] for line in lines if line.startswith("stat::number_of_executed_units")]
    branches = [line for line in lines if " cov: " in line]
    words = branches[-1].split(" cov: ")[1].split()[0] if branches else "?"
    print(
        f"fuzz: {name}: {runs[-1] if runs else '?'} runs, {words} branches, {'FAILED' if done.returncode else 'no failure'}",
        flush=True,
    )
    return not done.returncode


def fuzz(name: str, seconds: int) -> None:
    """Does not return."""
    import atheris

    with atheris.instrument_imports(include=["modules", "iot_platform", "ota_boot"]):
        from fuzz import targets

        targets.loader()
    from iotctl import board_code

    reader: Any = board_code.tarfile()
    for function in (reader._parse, reader._number, reader._text, reader.TarFile.next, reader.TarFile._end, reader.TarFile._fill):
        atheris.instrument_func(function)
    build = ROOT / ".build" / "fuzz"
    options = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1"]
    folders = [str(build / name), str(targets.CORPUS / name)]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={build / name}-failed-", *folders], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
