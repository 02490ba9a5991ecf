"""A process that is killed at a call: the call, and all that follows it, does not happen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest


class KilledError(BaseException):
    """In the place of the process' end, after which nothing is caught."""


class Kill:
    """Kills at the call number `at` of the methods that it watches, before it is made or `after` it was.

    Args:
        at: 0 for the first call; -1 only counts them.
        after: whether the call was made.
    """

    def __init__(self, at: int = -1, *, after: bool = False) -> None:
        self.at, self.after, self.calls, self._inside = at, after, 0, False

    def watch(self, patch: pytest.MonkeyPatch, owner: Any, *names: str) -> None:
        """Count the calls of `names` of a module or class, but those that one of them makes itself."""
        for name in names:
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def counted(*arguments: Any, **settings: Any) -> Any:
            call = partial(method, *arguments, **settings)
            if self._inside:
                return call()
            number, self.calls, self._inside = self.calls, self.calls + 1, True
            try:
                if number == self.at and not self.after:
                    raise KilledError
                return call()
            finally:
                self._inside = False
                if number == self.at:
                    raise KilledError  # in the place of what the call raised, too

        return counted


def killed_everywhere(watch: Callable[[pytest.MonkeyPatch, Kill], None], work: Callable[[int], object]) -> int:
    """Do `work` once for each call and each side of it, killed there; how often it was killed.

    Args:
        watch: says what is watched.
        work: is given a number of its own each time, and is first done whole, as -2 and -1.
    """
    counting = Kill()
    work(-2)  # makes what all share
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, counting)
        work(-1)
    kills = 0
    for at in range(counting.calls):
        for after in (False, True):
            kill = Kill(at, after=after)
            with pytest.MonkeyPatch.context() as patch:
                watch(patch, kill)
                with pytest.raises(KilledError):
                    work(kills)
            kills += 1
    return kills
