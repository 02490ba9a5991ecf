"""Keys in URIs: what must not be printed, nor kept with a run."""

from __future__ import annotations

import re
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
