"""The pool's shelves: which one a job's cell comes from, and which are always kept."""

from collections.abc import Iterable

from domain.limits import Limits, Profile
from domain.states import Runtime
from worker.sandbox.shelf import Key, Shelf

#: Tiers on which limits cannot be changed once a container runs: gVisor has no such command. Its cells are
#: started with a job's limits where these are not the profile's own; and nothing is imported ahead in
#: them, because what that holds could not be added to the user's memory afterwards.
FIXED = frozenset({Runtime.RUNSC})


def _alike(limits: Limits, profile: Profile) -> bool:
    defaults = profile.defaults
    return (limits.memory_mb, limits.cpus) == (defaults.memory_mb, defaults.cpus)


def _shape(limits: Limits, profile: Profile) -> Limits:
    """Limits of which only what a container is started with is the job's own."""
    return profile.resolve({"memory_mb": limits.memory_mb, "cpus": limits.cpus})


class Shelves(dict[Key, Shelf]):
    """By their keys. Only their pool touches them, under its lock."""

    def __init__(self) -> None:
        super().__init__()
        #: By image: words of programs that want preloading.
        self.mentions: dict[str, tuple[str, ...]] = {}

    def keep(self, image: str, profile: Profile, runtime: Runtime, mentions: Iterable[str], least: int) -> None:
        """Always keep so many idle cells of this kind. `mentions` as for `Pool.shelf`."""
        self.mentions[image] = tuple(mentions) or self.mentions.get(image, ())
        shelf = self.of(image, profile, runtime)
        shelf.least = least
        shelf.target = max(shelf.target, shelf.least)
        for other in self.values():
            other.mentions = self._words(other.image, other.runtime, to_order=other.to_order)

    def of(self, image: str, profile: Profile, runtime: Runtime, limits: Limits | None = None) -> Shelf:
        """The shelf for a job with these limits (not said: the profile's); a new one where there is none."""
        fixed = limits if limits is not None and runtime in FIXED and not _alike(limits, profile) else None
        key = (image, profile.name, runtime, None if fixed is None else _shape(fixed, profile))
        shelf = self.get(key)
        if shelf is None:
            shelf = Shelf(
                image,
                profile,
                runtime,
                limits=key[3] or profile.defaults,
                to_order=fixed is not None,
                mentions=self._words(image, runtime, to_order=fixed is not None),
            )
            self[key] = shelf
        return shelf

    def _words(self, image: str, runtime: Runtime, *, to_order: bool) -> tuple[bytes, ...]:
        """Preloading raises a cell's memory limit, which on some tiers is fixed."""
        if to_order or runtime in FIXED:
            return ()
        return tuple(word.encode() for word in self.mentions.get(image, ()))
