"""Checks of a Ray before it is joined or started, so that a mistake is told in seconds."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

LOCAL = "local"
"""The address of a Ray that is started on this machine alone."""

PATIENCE = 5.0
"""Seconds in which a cluster's port must take a connection."""

LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path, at most: what Linux takes."""

HEALTH = "/grpc.health.v1.Health/Check"
"""gRPC's protocol for health checks, which Ray's control store answers without a token."""

ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A question of Ray's own, for which the control store wants the token."""

MEND = (
    "set RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token, where a head on this "
    "machine has it"
)
"""Mend of a missing or wrong token."""

_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path that Ray makes below its folder, with the greatest number of a process."""


def address_of(option: str | None) -> str:
    """The Ray that is meant: the option's, else $RAY_ADDRESS, which is set for submitted jobs, else `LOCAL`."""
    return option or os.environ.get("RAY_ADDRESS") or LOCAL


def check(option: str | None) -> None:
    """Raise ValueError where no Ray can be joined, or none started, as --address and the environment say.

    Args:
        option: what --address says; None where it was not given.
    """
    address = address_of(option)
    if address == LOCAL:
        check_folder()
    else:
        check_address(address, "--address" if option else "RAY_ADDRESS")


def check_address(address: str, option: str) -> None:
    """Raise ValueError where nothing answers at a cluster's address.

    Args:
        address: `HOST:PORT` of a head, or `ray://HOST:PORT` of its client server; others are left to Ray.
        option: the option or variable that named it.
    """
    scheme, _, rest = address.rpartition("://")
    if scheme in ("http", "https"):
        raise ValueError(
            f"{option} {address} is a dashboard's address, for `ray job submit`; a job joins HOST:PORT, 6379 by default"
        )
    if scheme not in ("", "ray"):
        return
    try:
        parts = urlsplit(f"ray://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{option} {address}: give HOST:PORT, such as 10.0.0.5:6379") from None
    if host is None or port is None:
        return
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as error:
        raise _no_ray(option, address, error.strerror or str(error)) from None
    if not scheme and os.environ.get("RAY_USE_TLS", "0") == "0":
        _check_control_store(option, address, f"{host}:{port}")


def _no_ray(option: str, address: str, reason: str) -> ValueError:
    return ValueError(
        f"{option} {address}: no Ray answers there ({reason}); start one with `ray start --head`, or leave it out for "
        "a Ray on this machine alone"
    )


def _check_control_store(option: str, address: str, target: str) -> None:
    """Raise ValueError where what listens at `target` is no control store of Ray's, or wants another token.

    Ray itself asks for half a minute, with a line a second and a trace.
    """
    # Not at the top: a Ray of this machine needs none of it.
    import grpc

    # Ray's own channels go past a proxy, too.
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(HEALTH)(b"", timeout=PATIENCE)
        except grpc.RpcError as error:
            silent = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            reason = f"silent for {PATIENCE:.0f} s" if silent else "another program's port"
            raise _no_ray(option, address, reason) from None
        token, origin = _token()
        login = [("authorization", f"Bearer {token}")] if token else []
        try:
            channel.unary_unary(ALIVE)(b"", timeout=PATIENCE, metadata=login)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                return  # a Ray that does not know the question
            if token:
                raise ValueError(f"{option} {address}: this Ray refuses the token of {origin}: {MEND}") from None
            raise ValueError(f"{option} {address}: this Ray wants a token: {MEND}") from None


def _token() -> tuple[str, str]:
    """The token that this process sends to a Ray, and where it is from, as Ray finds it; "" where it sends none."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return "", ""
    if token := os.environ.get("RAY_AUTH_TOKEN", ""):
        return token, "RAY_AUTH_TOKEN"
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip(), str(path)
    except (OSError, ValueError):
        return "", ""


def check_folder() -> None:
    """Raise ValueError where the sockets of a Ray that starts here would have longer paths than Linux takes."""
    # As Ray chooses it.
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    folder = os.environ[variable] if variable is not None else "/tmp"  # noqa: S108  Ray's
    beyond = len(os.fsencode(Path(folder).absolute() / _SOCKET)) - LONGEST_SOCKET
    if beyond > 0:
        raise ValueError(
            f"{variable} {folder}: too long by {beyond} characters for the sockets that Ray makes below it; set "
            "RAY_TMPDIR to a short folder, such as /tmp"
        )
