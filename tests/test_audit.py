"""What `make lint` says of known vulnerabilities, and that it fails where there is one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests import audit
from tests.support.processes import free_ports


class Service(BaseHTTPRequestHandler):
    """Answers as the OSV service: Pillow has a vulnerability, nothing else has."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        affected = [{"package": {"ecosystem": "PyPI", "name": "pillow"}, "ranges": []}]
        one = {"id": "PYSEC-0000-1", "summary": "made up", "affected": affected}
        body = json.dumps({"vulns": [one]} if asked["package"]["name"].lower() == "pillow" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def service() -> Iterator[list[str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield ["-s", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"]
    server.shutdown()
    server.server_close()


def test_a_vulnerable_package_fails(service, tmp_path, monkeypatch, capsys):
    (tmp_path / "pins").write_text("pillow==13.0.0\nnumpy==2.4.6\n")
    monkeypatch.setattr(audit, "PINS", tmp_path / "pins")
    assert audit.main(service) == 1
    said = capsys.readouterr().out
    assert "pillow 13.0.0: PYSEC-0000-1" in said and "audited: 2 packages, 1 vulnerable" in said


def test_where_nobody_answers_that_is_said_and_nothing_fails(capsys):
    (nobody,) = free_ports(1)
    assert audit.main(["-s", "osv", "--osv-url", f"http://127.0.0.1:{nobody}/"]) == 0
    assert capsys.readouterr().out.startswith("not audited: ")
