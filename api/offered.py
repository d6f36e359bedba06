"""What the live workers can run, asked of the database every few seconds, so that no request waits for it."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from api.database import Database
from api.problems import FieldError, Kind, Problem, invalid
from domain.languages import Language, Variant, split_wish
from domain.states import Runtime
from domain.worker_statements import LIVE_WORKERS

log = logging.getLogger(__name__)

#: Seconds between looks: workers report every second, and count as gone after six.
EVERY_S = 1.0


class Offered:
    """Languages and tiers, and what is known of the images that run them."""

    def __init__(self, database: Database, languages: Mapping[str, Language]) -> None:
        self.languages = languages
        self._database = database
        # By image, what it says of itself; None while no worker has told, so that what is declared counts.
        self._images: dict[str, dict[str, Any]] | None = None
        #: The tiers that live workers offer; None while no worker lives, and then nothing is known.
        self.tiers: frozenset[Runtime] | None = None

    async def run(self) -> None:
        """Look now and again, for ever."""
        while True:
            try:
                await self.look()
            except Problem:
                log.debug("the database does not answer; which images there were still counts")
                self.tiers = None
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Ask what the live workers have.

        Raises:
            Problem: the database does not answer.
        """
        self.take(await self._database.all(LIVE_WORKERS, {}))

    def take(self, workers: Sequence[Any]) -> None:
        """Take in what live workers said of themselves: rows of LIVE_WORKERS."""
        told = [worker.facts["images"] for worker in workers if "images" in worker.facts]
        self._images = {name: facts for images in told for name, facts in images.items()} if told else None
        known = {each.value for each in Runtime}
        names = {name for worker in workers for name in worker.facts.get("runtimes") or () if name in known}
        self.tiers = frozenset(map(Runtime, names)) or None

    def versions(self) -> dict[str, str] | None:
        """The images that some live worker has, and their versions; None while no worker has told."""
        return (
            None if self._images is None else {name: facts["version"] for name, facts in self._images.items()}
        )

    def language(self, wanted: str) -> Language:
        """The language that a job names.

        Raises:
            Problem: 422 with what may be named; 503 where no live worker has any image for it.
        """
        name, wish = split_wish(wanted)
        versions = self.versions()
        language = self.languages.get(name)
        if language is None:
            every = [known for each in self.languages.values() for known in each.wishes(versions)]
            raise invalid(FieldError("language", "is not offered", every))
        if not any(language.choose(wish, profile) for profile in self._profiles(language)):
            raise invalid(FieldError("language", "has no such version", language.wishes(versions)))
        if versions is not None and not any(
            language.choose(wish, profile, versions) for profile in self._profiles(language)
        ):
            names = language.wishes(versions)
            if len(names) > 1:
                raise invalid(FieldError("language", "has no such version here", names))
            raise Problem(
                Kind.UNAVAILABLE, f"no worker has an image for {language.title} now; it has to be built"
            )
        return language

    def profiles(self, wanted: str, language: Language) -> list[str]:
        """The profiles that a job may name beside this language."""
        _, wish = split_wish(wanted)
        return [each for each in self._profiles(language) if language.choose(wish, each, self.versions())]

    @staticmethod
    def _profiles(language: Language) -> list[str]:
        return list(dict.fromkeys(profile for each in language.variants for profile in each.profiles))

    def missing(self) -> list[str]:
        """Languages that no live worker can run, where that is known."""
        versions = self.versions()
        if versions is None:
            return []
        return [
            language.name
            for language in self.languages.values()
            if not any(variant.image in versions for variant in language.variants)
        ]

    def document(self) -> list[dict[str, Any]]:
        """What `GET /v1/languages` shows."""
        return [
            {
                "name": language.name,
                "title": language.title,
                "compiled": language.compiled,
                "profiles": list(language.profiles),
                "versions": self._versions(language),
            }
            for language in self.languages.values()
        ]

    def _versions(self, language: Language) -> list[dict[str, Any]]:
        images = self._images or {}
        return [
            {
                "name": f"{language.name}@{self._name(variant, images[variant.image]['version'])}",
                "version": images[variant.image]["version"],
                "image": variant.image,
                "profiles": [
                    profile
                    for profile in variant.profiles
                    if language.choose(
                        self._name(variant, images[variant.image]["version"]), profile, self.versions()
                    )
                    is variant
                ],
                "system": images[variant.image]["system"],
                "packages": images[variant.image]["packages"],
            }
            for variant in language.variants
            if variant.image in images
        ]

    @staticmethod
    def _name(variant: Variant, version: str) -> str:
        return variant.flavour or variant.short(version)
