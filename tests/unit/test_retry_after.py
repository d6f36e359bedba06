"""Every spelling of Retry-After."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.retry_after import seconds

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def wait(**headers: str) -> float | None:
    """What these headers ask for; _ stands for -, except where a gateway writes one itself."""
    names = {name.replace("_", "-").replace("llm-provider", "llm_provider"): v for name, v in headers.items()}
    return seconds(names, now=NOW.timestamp())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "2"}, 2.0),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": " .5 "}, 0.5),
        ({"retry_after": "0"}, 0.0),
        ({"Retry_After": "3"}, 3.0),
        ({"retry_after": "Sat, 21 Nov 2026 12:00:07 GMT"}, 7.0),
        ({"retry_after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry_after": "Saturday, 21-Nov-26 12:00:09 GMT"}, 9.0),
        ({"retry_after": "Sat Nov 21 12:00:11 2026"}, 11.0),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after_ms": "1500.5"}, 1.5005),
        ({"llm_provider_retry_after": "7"}, 7.0),
        ({"llm_provider_retry_after": "Sat, 21 Nov 2026 12:00:07 GMT"}, 7.0),
        ({"llm_provider_retry_after_ms": "300"}, 0.3),
        ({"retry_after_ms": "100", "retry_after": "9", "llm_provider_retry_after": "8"}, 0.1),
        ({"retry_after": "9", "llm_provider_retry_after_ms": "800"}, 9.0),
        ({"retry_after_ms": "soon", "retry_after": "4"}, 4.0),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "6m0s"}, 360.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "12ms"}, 0.012),
        ({"x_ratelimit_remaining_tokens": "5", "x_ratelimit_reset_tokens": "6m0s"}, None),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "-1"}, None),
        (
            {
                "anthropic_ratelimit_tokens_remaining": "0",
                "anthropic_ratelimit_tokens_reset": "2026-11-21T12:00:20Z",
                "anthropic_ratelimit_requests_remaining": "0",
                "anthropic_ratelimit_requests_reset": "2026-11-21T12:00:05Z",
            },
            20.0,
        ),
        ({"retry_after": "later"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "NaN"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "1e400"}, None),
        ({"retry_after": "٣"}, None),  # digits, but no number of HTTP
        ({"retry_after": ""}, None),
        ({}, None),
    ],
)
def test_spellings(headers: dict[str, str], expected: float | None) -> None:
    assert wait(**headers) == (None if expected is None else pytest.approx(expected))


def test_buckets_are_a_reason_only_where_asked() -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}
    assert seconds(headers, now=0) == 1.0
    assert seconds(headers, now=0, resets=False) is None


@given(st.floats(0, 10**6), st.sampled_from(["retry-after", "llm_provider-retry-after"]))
def test_seconds_as_decimals(value: float, name: str) -> None:
    text = f"{value:.3f}"
    assert seconds({name: text}, now=0) == float(text)


@given(st.integers(0, 10**6))
def test_dates(ahead: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)
    assert wait(retry_after=date) == float(ahead)


@given(
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"]), st.text())
)
def test_anything_is_a_time_or_nothing(headers: dict[str, str]) -> None:
    found = seconds({**headers, "x-ratelimit-remaining-tokens": "0"}, now=NOW.timestamp())
    assert found is None or (math.isfinite(found) and found >= 0)
