"""Which images this worker has, what they say of themselves, and which of them runs a job."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from domain.languages import Language, split_wish
from worker.sandbox import images
from worker.sandbox.engine import Engine, EngineError, NoSuchImage

log = logging.getLogger(__name__)

#: Seconds between looks for an image that was not there; `make images` may be under way.
LOOK_S = 10.0


class NotOffered(Exception):
    """This worker cannot run such a job; says why, and what to do."""


class NotKnown(Exception):
    """The engine did not say whether it has an image for such a job, which can wait until it does."""


class Offers:
    """See the module. May be asked from any thread."""

    def __init__(self, engine: Engine, languages: Mapping[str, Language]) -> None:
        names = [variant.image for language in languages.values() for variant in language.variants]
        self.tags = {name: images.expected_tag(name) for name in names}
        self._engine = engine
        self._languages = languages
        self._found: dict[str, dict[str, Any]] = {}  # by image: what it says of itself
        self._digests: dict[str, str] = {}  # by tag; a tag of ours never moves
        self._looked_at: dict[str, float] = {}

    def look(self) -> None:
        """Look for images that are not known yet; those that are there stay so."""
        for name in self.tags:
            self._look(name)

    def _look(self, name: str, after_s: float = LOOK_S) -> EngineError | None:
        """Look for an image unless it is known, or was looked for lately; what kept the engine from saying."""
        now = time.monotonic()
        if name in self._found or now - self._looked_at.get(name, -after_s) < after_s:
            return None
        self._looked_at[name] = now
        tag = self.tags[name]
        try:
            inspected = self._engine.image(tag)
            facts = images.facts_of(inspected)
        except NoSuchImage:
            return None
        except (EngineError, images.ImageMissing) as e:
            log.warning("nothing is known of the image %s: %s", tag, e)
            return e if isinstance(e, EngineError) else None
        self._digests[tag] = str(inspected["Id"])
        self._found[name] = facts
        return None

    def choose(self, wanted: str, profile: str) -> tuple[Language, str]:
        """The language that a job names, and the tag of the image that runs it.

        Raises:
            NotOffered: there is none.
            NotKnown: perhaps there is one.
        """
        name, wish = split_wish(wanted)
        language = self._languages.get(name)
        if language is None:
            # Stored by another version; no retry here would change it.
            raise NotOffered(f"this worker does not know the language {name!r}")
        for variant in language.variants:
            self._look(variant.image)
        chosen = language.choose(wish, profile, self.versions())
        if chosen is None:
            # What is said now ends the job, so it must be true now.
            unknown = [why for variant in language.variants if (why := self._look(variant.image, 0.0))]
            chosen = language.choose(wish, profile, self.versions())
            if chosen is None and unknown:
                raise NotKnown(str(unknown[0]))
        if chosen is None:
            needed = language.choose(wish, profile)
            hint = f": run `{images.BUILD_COMMAND} {needed.image}`" if needed else ""
            raise NotOffered(f"this worker has no image for {wanted} in the profile {profile}{hint}")
        return language, self.tags[chosen.image]

    def digest(self, tag: str) -> str | None:
        """The content id of an image that was chosen."""
        return self._digests.get(tag)

    def versions(self) -> dict[str, str]:
        """The images that are there, and the version of its language that each has."""
        return {name: str(facts["version"]) for name, facts in self._found.items()}

    def facts(self) -> dict[str, Any]:
        """What the API needs to know: by image its version, packages and system."""
        return {
            name: {
                "version": facts["version"],
                "packages": facts["packages"],
                "system": facts["system"].get("name"),
            }
            for name, facts in self._found.items()
        }
