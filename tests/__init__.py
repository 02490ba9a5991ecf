"""The tests of miseg: folders mirror the package, and `tests.support` holds what they share."""
