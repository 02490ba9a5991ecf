"""A Ray that cannot be joined or started is told in seconds, with what to do."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from miseg.service.cluster import reachable
from miseg.service.cluster.reachable import LONGEST_SOCKET, check_address, check_folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_answers_is_told(scheme: str) -> None:
    address = f"{scheme}127.0.0.1:{free_port()}"
    with pytest.raises(ValueError, match=f"--address {address}: no Ray answers there .Connection refused.; start one"):
        check_address(address, "--address")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("no-such-host.invalid:6379", "RAY_ADDRESS no-such-host.invalid:6379: no Ray answers there"),
        ("http://127.0.0.1:8265", "is a dashboard's address"),
        ("127.0.0.1:port", "give HOST:PORT"),
    ],
)
def test_other_wrong_addresses_are_told(address: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_address(address, "RAY_ADDRESS")


@contextlib.contextmanager
def grpc_server(*handlers: grpc.GenericRpcHandler) -> Iterator[str]:
    """HOST:PORT of a gRPC server with these services."""
    server = grpc.server(ThreadPoolExecutor(1), handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_a_control_store_passes_and_names_are_left_to_ray() -> None:
    # What Ray's own answers, without a token.
    serving = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")
    health = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": serving})
    with grpc_server(health) as address:
        check_address(address, "--address")
    check_address("auto", "--address")


class Guarded(grpc.GenericRpcHandler):
    """The services of a control store that wants a token."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        login = dict(call.invocation_metadata).get("authorization")

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if call.method == reachable.ALIVE and login != "Bearer right":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b"\x08\x01"

        known = call.method in (reachable.HEALTH, reachable.ALIVE)
        return grpc.unary_unary_rpc_method_handler(answer) if known else None


def test_a_token_that_a_cluster_wants_is_told_of_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local Ray leaves a token, with which `ray start --head` wants it from all: Ray gave a trace after 25 s."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "token").write_text("wrong\n")
    with grpc_server(Guarded()) as address:
        with pytest.raises(ValueError, match=r"--address .*: this Ray wants a token: set RAY_AUTH_MODE=token, and "):
            check_address(address, "--address")
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
        with pytest.raises(ValueError, match=f"this Ray refuses the token of {tmp_path}/token: set RAY_AUTH_MODE"):
            check_address(address, "--address")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
        check_address(address, "--address")


def test_another_program_at_the_address_is_told_at_once() -> None:
    """Ray asked it for 25 s, and printed 75 lines."""
    with grpc_server() as address, pytest.raises(ValueError, match=r"no Ray answers there \(another program's port\);"):
        check_address(address, "RAY_ADDRESS")
    pages = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ValueError, match=r"no Ray answers there \(another program's port\);"):
            check_address(f"127.0.0.1:{pages.server_port}", "RAY_ADDRESS")
    finally:
        pages.shutdown()
        pages.server_close()


def test_an_address_that_is_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ValueError, match="no Ray answers there"):
            check_address(f"127.0.0.1:{server.getsockname()[1]}", "--address")
        check_address(f"ray://127.0.0.1:{server.getsockname()[1]}", "--address")


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_too_long_for_sockets_is_told(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, f"/tmp/{'x' * 65}")
    with pytest.raises(ValueError, match=f"{variable} /tmp/x+: too long by .* RAY_TMPDIR to a short folder"):
        check_folder()
    monkeypatch.setenv(variable, "/tmp")
    check_folder()


def test_the_limit_is_the_systems(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as longest, pytest.raises(FileNotFoundError):
        longest.bind("/" + "x" * (LONGEST_SOCKET - 3) + "/a")
    with socket.socket(socket.AF_UNIX) as beyond, pytest.raises(OSError, match="too long"):
        beyond.bind("/" + "x" * LONGEST_SOCKET)
