"""Looks for known vulnerabilities of the pinned packages: python -m tests.audit

Ends with status 1 where there is one. Where the service does not answer, or knows a package not, that is said, and the
status is 0: a machine without a network is no reason to fail. Further options are pip-audit's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any

from tests.support import ROOT

PINS = ROOT / "constraints.txt"
FIRST_SECONDS, ALL_SECONDS = 30, 300


def audit(pins: str, options: list[str], seconds: float) -> list[dict[str, Any]] | str:
    """What pip-audit says of each pin (`name==version` a line), or the reason why it says nothing."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(pins)
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5", *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"no answer within {seconds:.0f} s"
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except (ValueError, LookupError):
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return said[-1] if said else f"pip-audit ended with {done.returncode} and no report"


def report(found: list[dict[str, Any]]) -> int:
    """Print what was found and what was not looked at; the status to end with."""
    skipped = [package for package in found if "skip_reason" in package]
    vulnerable = [package for package in found if package.get("vulns")]
    for package in vulnerable:
        for one in package["vulns"]:
            mend = ", ".join(one.get("fix_versions", [])) or "none yet"
            print(f"{package['name']} {package['version']}: {one['id']}, mended in {mend}")
    if skipped:
        print(f"not audited: {len(skipped)} of {len(found)} packages, such as {skipped[0]['skip_reason']}")
    print(f"audited: {len(found) - len(skipped)} packages, {len(vulnerable)} vulnerable")
    return 1 if vulnerable else 0


def main(options: list[str]) -> int:
    """Ask for one package, and where that is answered for all."""
    pins = PINS.read_text()
    found = audit(next(line for line in pins.splitlines() if line.startswith("pillow==")), options, FIRST_SECONDS)
    if not isinstance(found, str) and all("skip_reason" in package for package in found):
        found = found[0]["skip_reason"]
    elif not isinstance(found, str):
        found = audit(pins, options, ALL_SECONDS)
    if isinstance(found, str):
        print(f"not audited: {found}")
        return 0
    return report(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
