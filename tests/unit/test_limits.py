"""Profiles, limits and languages."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from domain.languages import load_languages
from domain.limits import Fixed, LimitError, Limits, Profile, load_profiles

PROFILES = load_profiles()


def test_the_profiles_have_the_promised_numbers() -> None:
    assert set(PROFILES) == {"standard", "extended"}
    standard, extended = PROFILES["standard"], PROFILES["extended"]
    assert (standard.defaults.memory_mb, standard.defaults.timeout_s) == (512, 60)
    assert (standard.choices["memory_mb"].most, standard.choices["timeout_s"].most) == (512, 120)
    assert (extended.defaults.memory_mb, extended.defaults.timeout_s) == (1024, 120)
    assert (extended.choices["memory_mb"].most, extended.choices["timeout_s"].most) == (1024, 180)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_profiles_are_complete_and_make_sense(profile: Profile) -> None:
    assert set(profile.choices) == {field.name for field in fields(Limits)}
    for choice in profile.choices.values():
        assert 0 < choice.least <= (choice.default or choice.least) <= choice.most
    for field in fields(Fixed):
        assert getattr(profile.fixed, field.name) > 0
    # A file in the work folder lies in memory.
    assert profile.fixed.work_mb <= profile.choices["memory_mb"].most
    assert profile.fixed.file_mb <= profile.fixed.work_mb
    assert profile.title


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
@pytest.mark.parametrize("profile", PROFILES)
def test_both_ends_of_a_range_are_allowed_and_nothing_beyond(profile: str, name: str) -> None:
    choice = PROFILES[profile].choices[name]
    for end in (choice.least, choice.most):
        assert getattr(PROFILES[profile].resolve({name: end}), name) == end
    for beyond in (choice.least / 2, choice.most + 1, 0, -1, math.nan, math.inf, -math.inf):
        with pytest.raises(LimitError) as failed:
            PROFILES[profile].resolve({name: beyond})
        assert failed.value.field == name
        assert str(failed.value) == f"{name} must be {failed.value.allowed} in the profile {profile!r}"


def test_silence_means_the_default() -> None:
    standard = PROFILES["standard"]
    assert standard.resolve({}) == standard.resolve({"cpus": None, "timeout_s": None}) == standard.defaults
    assert standard.resolve({"timeout_s": 7, "memory_mb": None}).timeout_s == 7


def test_a_limit_without_a_default_applies_only_where_it_is_asked_for() -> None:
    standard = PROFILES["standard"]
    assert standard.defaults.cpu_s is None
    assert standard.resolve({"cpu_s": 3}).cpu_s == 3


def test_limits_that_were_stored_before_there_was_a_cpu_limit_are_read() -> None:
    stored: dict[str, Any] = {"timeout_s": 60, "memory_mb": 512, "cpus": 1.0, "output_bytes": 1048576}
    assert Limits(**stored) == PROFILES["standard"].defaults


def test_limits_have_the_types_they_declare_and_survive_json() -> None:
    limits = PROFILES["standard"].resolve({"timeout_s": 5.0, "cpus": 1})
    assert type(limits.timeout_s) is int
    assert type(limits.cpus) is float
    assert Limits(**limits.as_dict()) == limits


def test_an_operator_may_bring_other_profiles(tmp_path: Path) -> None:
    own = tmp_path / "profiles.toml"
    ours = (Path(__file__).parents[2] / "domain" / "data" / "profiles.toml").read_text()
    own.write_text(ours.replace("most = 120", "most = 3600"))
    assert load_profiles(own)["standard"].resolve({"timeout_s": 3600}).timeout_s == 3600


def test_every_language_has_an_image_and_profiles_that_exist() -> None:
    languages = load_languages()
    assert "python" in languages
    for language in languages.values():
        assert language.profiles
        assert set(language.profiles) <= set(PROFILES)
        for variant in language.variants:
            assert (Path(__file__).parents[2] / "sandbox-images" / variant.image / "image.toml").is_file()
        assert "/" not in language.file
