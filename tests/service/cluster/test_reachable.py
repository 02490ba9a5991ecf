"""A Ray that cannot be joined or started is told in seconds, with what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

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


def test_an_address_that_answers_passes_and_names_are_left_to_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_address(f"127.0.0.1:{server.getsockname()[1]}", "--address")
    check_address("auto", "--address")


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
