"""The reference of the settings: as the classes have them, every one with a word of what it means."""

from scripts import configuration


def test_the_reference_is_up_to_date() -> None:
    assert configuration.DOCUMENT.read_text() == configuration.reference(), "run `make configuration`"


def test_every_setting_says_what_it_means() -> None:
    assert configuration.undescribed() == []


def test_defaults_and_bounds_are_told() -> None:
    lines = {
        line.split("`")[1]: line for line in configuration.reference().splitlines() if line.startswith("| `")
    }
    assert "| **required** |" in lines["RETORT_DATABASE_URL"]
    assert "| `8000` | ≥ 0, ≤ 65535 |" in lines["RETORT_PORT"]
    assert "| depends |" in lines["RETORT_INSTANCE"]
    assert "`^(DEBUG\\|INFO\\|WARNING\\|ERROR)$`" in lines["RETORT_LOG_LEVEL"]
    assert lines["RETORT_MODEL_RETRIES"].startswith("| `RETORT_MODEL_RETRIES` | `5` | ≥ 0, ≤ 20 |")
