"""Languages, their versions, and which image runs a job. The data file beside this module holds them.

A job names a language, and may wish for a version: `python`, `python@3.12`, `python@tensorflow`.

>>> languages = load_languages()
>>> split_wish("python@3.12")
('python', '3.12')
>>> languages["python"].choose(None, "standard").image
'python'
>>> languages["python"].choose("3.13", "standard").image
'python-3.12'
>>> languages["python"].choose("3.12", "standard", {"python": "3.11.2", "python-3.12": "3.13.5"}) is None
True
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Variant:
    """An image that runs a language.

    Attributes:
        image: its name.
        versions: what it may turn out to have.
        profiles: the profiles it serves.
        flavour: a name that a job must wish for; None: for everybody.
    """

    image: str
    versions: tuple[str, ...]
    profiles: tuple[str, ...]
    flavour: str | None = None

    def suits(self, wish: str | None, version: str | None) -> bool:
        """Whether this is what a job wishes for; `version`: what the image has, if that is known."""
        if self.flavour is not None or wish is None:
            return self.flavour == wish
        if version is not None:
            return _begins(version, wish)
        return any(_begins(known, wish) or _begins(wish, known) for known in self.versions)

    def short(self, version: str) -> str:
        """What people call a version, as long as in the data file: `3.11` for 3.11.2, `20` for 20.1.0."""
        return ".".join(version.split(".")[: self.versions[0].count(".") + 1])


@dataclass(frozen=True, slots=True)
class Language:
    """A language that code may be in.

    Attributes:
        file: what a program is called.
        compiled: a compiler runs first.
        makes: what that calls the program it makes; None where there is none.
    """

    name: str
    title: str
    file: str
    compiled: bool
    variants: tuple[Variant, ...]
    makes: str | None = None

    @property
    def program(self) -> tuple[str, ...]:
        """Names of the program's own files in the work folder."""
        return (self.file,) if self.makes is None else (self.file, self.makes)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles that it can be run in without a wish."""
        plain = [profile for each in self.variants if each.flavour is None for profile in each.profiles]
        return tuple(sorted(dict.fromkeys(plain), key=lambda profile: (profile != "standard", profile)))

    def choose(
        self, wish: str | None, profile: str, versions: Mapping[str, str] | None = None
    ) -> Variant | None:
        """The image for a job; None if there is none. `versions`: those that are there, by image, if known."""
        for variant in self.variants:
            there = versions is None or variant.image in versions
            version = versions.get(variant.image) if versions is not None else None
            if there and profile in variant.profiles and variant.suits(wish, version):
                return variant
        return None

    def wishes(self, versions: Mapping[str, str] | None = None) -> list[str]:
        """What a job may name, in the order of the data file: the language alone, then with each version."""
        found = [self.name]
        for variant in self.variants:
            if versions is not None and variant.image not in versions:
                continue
            names = [variant.short(versions[variant.image])] if versions is not None else list(variant.versions)
            found += [f"{self.name}@{name}" for name in ([variant.flavour] if variant.flavour else names)]
        return list(dict.fromkeys(found))


def _begins(version: str, wish: str) -> bool:
    return f"{version}.".startswith(f"{wish}.")


def split_wish(text: str) -> tuple[str, str | None]:
    """A language's name and the version wished for, of what a job says."""
    name, at, wish = text.partition("@")
    return name, wish if at else None


def load_languages(path: Path | None = None) -> dict[str, Language]:
    """The languages by name, from `path` or from the file that comes with us."""
    source = path if path is not None else files("domain").joinpath("data", "languages.toml")
    return {
        name: Language(
            name=name,
            title=entry["title"],
            file=entry["file"],
            compiled="makes" in entry,
            makes=entry.get("makes"),
            variants=tuple(
                Variant(
                    image=each["image"],
                    versions=tuple(each["versions"]),
                    profiles=tuple(each["profiles"]),
                    flavour=each.get("flavour"),
                )
                for each in entry["images"]
            ),
        )
        for name, entry in tomllib.loads(source.read_text(encoding="utf-8")).items()
    }
