"""No file of the repository holds a secret."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

SECRET = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-)[0-9A-Za-z_\-]{20,}"
    r"|\beyJ[0-9A-Za-z_\-]{10,}\.eyJ[0-9A-Za-z_\-]{10,}\."  # JSON web tokens
    r"|(?i:(secret|passw(or)?d|token|api_?key)[a-z_]*[\"']?\s*[:=]\s*[\"'][0-9a-z+/=_\-]{16,}[\"'])"
    r"|://[^/\s:@\"'{}…]+:[^/\s:@\"'{}…]{6,}@"
)


def test_no_file_of_the_repository_holds_a_secret():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no repository")
    own = {Path(__file__), ROOT / "tests" / "service" / "tracking" / "test_login.py"}  # which make some up
    found = [
        f"{name}: {match.group()[:12]}…"
        for name in listed.stdout.splitlines()
        if (path := ROOT / name) not in own and path.is_file()
        for match in SECRET.finditer(path.read_text(errors="ignore"))
    ]
    assert not found, found


@pytest.mark.parametrize(
    "text",
    [
        "AKIA" + "Q" * 16,
        "-----BEGIN RSA PRIVATE KEY-----",
        "hf_" + "a" * 34,
        "password = '" + "9f" * 12 + "'",
        "http://user:geheim12@host/",
    ],
)
def test_secrets_are_seen(text):
    assert SECRET.search(text)
