"""The small data set, and the store of a test's own, that the service's tests have."""

from tests.service.conftest import small, template, tiny, uri

__all__ = ["small", "template", "tiny", "uri"]
