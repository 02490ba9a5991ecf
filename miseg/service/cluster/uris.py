"""Addresses: keys in them, which must not be printed nor kept with a run, and those at which no MLflow can be."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

_KEY = re.compile(r"secret|token|passw|pwd|key|credential|^sig(nature)?$|^x-amz-", re.IGNORECASE)
"""Names of parameters that are keys: `client_secret`, `token`, a SAS's `sig`, what S3 signs an address with."""


def keys_masked(uri: str) -> str | None:
    """The URI without what is secret in it, where it holds a key: a login with a password, or a parameter that is one.

    None where it holds none; text that is no URI holds none.
    """
    if "://" not in uri:
        return None
    scheme = uri.partition("://")[0]
    try:
        parts = urlsplit(uri)
    except ValueError:  # of a host in brackets that is none
        return f"{scheme}://…" if "@" in uri or "?" in uri else None
    login, _, host = parts.netloc.rpartition("@")
    # A fragment may be a query to who reads it.
    queries = (parts.query.replace(";", "&"), parts.fragment.replace(";", "&"))
    names = [name for query in queries for name, _ in parse_qsl(query, keep_blank_values=True)]
    if ":" in login or any(_KEY.search(name) for name in names):
        return f"{scheme}://…@{host}…" if login else f"{scheme}://{host}…"
    return None


TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
"""Begins of the addresses that MLflow takes for a server or a database."""


def check_tracking(uri: str) -> None:
    """Raise ValueError for a $MLFLOW_TRACKING_URI at which no MLflow can be; nothing is asked for it."""
    scheme, colon, _ = uri.partition(":")
    scheme = scheme.partition("+")[0].lower() if colon else ""
    mend = (
        "give the http address of an `mlflow server`, or sqlite:////FOLDER/mlflow.db, or unset it for the storage's own"
    )
    if uri in ("", "databricks") or scheme in TRACKING_SCHEMES:
        return
    if scheme in ("", "file"):
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("1", "true"):
            return
        raise ValueError(f"MLFLOW_TRACKING_URI = {uri}: a folder of runs, which MLflow keeps no longer; {mend}")
    near = difflib.get_close_matches(scheme, TRACKING_SCHEMES, n=1)
    meant = f"did you mean {near[0]}{uri[len(scheme) :]}? Else " if near else ""
    raise ValueError(f"MLFLOW_TRACKING_URI = {keys_masked(uri) or uri}: no MLflow has such an address; {meant}{mend}")


OFFLINE = "offline"
"""Folder in the storage with the runs that are sent to a server later."""


def database(storage: str, offline: bool = False) -> Path:
    """SQLite file of the runs that are recorded in a storage that is a folder; of its `offline` ones."""
    return Path(storage).expanduser().resolve() / (OFFLINE if offline else "") / "mlflow.db"


def recorded(storage: str, offline: bool = False) -> Path:
    """The `database` of a folder; a ValueError where it is not there."""
    if not (path := database(storage, offline)).is_file():
        lacks = f"it has no {OFFLINE}/{path.name}" if offline else f"it has no {path.name}"
        raise ValueError(f"no run was recorded in {storage} ({lacks}): name another folder with --storage")
    return path


def check_recorded(storage: str, offline: bool = False) -> None:
    """Raise ValueError where runs would be read from a folder's own store, and none is there; MLflow would make one."""
    if "://" not in storage and (offline or not os.environ.get("MLFLOW_TRACKING_URI")):
        recorded(storage, offline)
