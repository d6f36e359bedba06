"""The fleet on paper: formulas against values known by hand, the simulation against the formulas."""

import math
import random

import pytest

from benchmarks.fleet import (
    DAY_S,
    LEASE_S,
    Costs,
    Day,
    arrivals,
    erlang_c,
    hosts_needed,
    mean_wait_s,
    rate_at,
    report,
    service_s,
    simulate,
)


def seeded(seed: int = 7) -> random.Random:
    """The same chance each time."""
    return random.Random(seed)  # noqa: S311


@pytest.mark.parametrize(
    ("servers", "load", "waits"),
    [
        (1, 0.5, 0.5),  # M/M/1: the load itself
        (1, 0.9, 0.9),
        (2, 1.0, 1 / 3),
        (3, 2.0, 4 / 9),
        (5, 0.0, 0.0),
    ],
)
def test_the_chance_to_wait(servers: int, load: float, waits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waits)


def test_more_than_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="never fit"):
        erlang_c(2, 2.0)


def test_the_mean_wait_of_one_server() -> None:
    assert mean_wait_s(1, 0.8, 1.0) == pytest.approx(0.8 / (1 - 0.8))


@pytest.mark.parametrize("peak", [1.0, 1.5, 2.0, 3.0, 5.0])
def test_a_day_has_its_jobs_and_its_crest(peak: float) -> None:
    day = Day(jobs=86_400, peak=peak)
    rates = [rate_at(day, 60 * minute) for minute in range(1440)]
    assert sum(rates) / len(rates) == pytest.approx(1.0, rel=1e-3)
    assert max(rates) == pytest.approx(peak, rel=1e-3)
    assert min(rates) >= 0


def test_time_in_a_slot() -> None:
    costs = Costs(fresh_cpu_s=0.2, reused_cpu_s=0.0)
    day = Day(fresh=0.5, program_cpu_s=0.4, program_wait_s=0.5, cores=2)
    # 0.5 of CPU and 0.5 of waiting: four slots just fill two cores, eight make the CPU part twice as long.
    assert service_s(Day(**{**vars(day), "slots": 4}), costs) == pytest.approx((1.0, 0.5))
    assert service_s(Day(**{**vars(day), "slots": 8}), costs) == pytest.approx((1.5, 0.5))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (4, 3.0)])
def test_the_simulation_agrees_with_the_formula(servers: int, load: float) -> None:
    chance = seeded()
    day = Day(jobs=0, hosts=servers, slots=1, lost_hosts=0)
    times, at = [], 0.0
    for _ in range(60_000):
        at += chance.expovariate(load)
        times.append(at)
    found = simulate(times, day, 1.0, chance)
    assert found.finished == len(times)
    assert found.wait_mean_s == pytest.approx(mean_wait_s(servers, load, 1.0), rel=0.1)


def test_with_room_for_all_nobody_waits() -> None:
    day = Day(hosts=1, slots=3, lost_hosts=0)
    found = simulate([0.0, 0.0, 0.0], day, 1e-6, seeded())
    assert (found.finished, found.rerun, found.wait_most_s, found.longest_queue) == (3, 0, 0.0, 0)


def test_what_ran_on_a_lost_host_runs_again_and_nothing_is_lost() -> None:
    chance = seeded()
    day = Day(jobs=20_000, peak=1.0, hosts=4, slots=4, lost_hosts=6, gone_s=600)
    times = list(arrivals(day, chance))
    found = simulate(times, day, 20.0, chance)
    assert found.finished == len(times) == pytest.approx(day.jobs, rel=0.05)
    assert found.rerun > 0
    # What was done on a host that went counts only until then.
    assert found.busy == pytest.approx(len(times) * 20.0 / (16 * DAY_S), rel=0.05)
    assert day.gone_s > LEASE_S


def test_a_seed_is_a_day() -> None:
    day = Day(jobs=5_000, hosts=2)

    def run(seed: int) -> object:
        chance = seeded(seed)
        return simulate(list(arrivals(day, chance)), day, 5.0, chance)

    assert run(1) == run(1) != run(2)


def test_hosts_that_are_needed() -> None:
    day, costs = (
        Day(jobs=864_000, peak=1.0, slots=1, program_wait_s=0.0),
        Costs(fresh_cpu_s=0.0, reused_cpu_s=0.0),
    )
    day = Day(**{**vars(day), "program_cpu_s": 1.0})
    needed = hosts_needed(day, costs, 0.1)  # 10 Erlang
    assert mean_wait_s(needed, 10.0, 1.0) <= 0.1 < mean_wait_s(needed - 1, 10.0, 1.0)


def test_the_report_states_every_assumption() -> None:
    day, costs = Day(jobs=1_000, hosts=1), Costs()
    chance = seeded()
    mean_s, _ = service_s(day, costs)
    text = "\n".join(report(day, costs, simulate(list(arrivals(day, chance)), day, mean_s, chance)))
    for part in (Day, Costs):
        for each in part.__dataclass_fields__.values():
            assert each.metadata["says"] in text
    assert not math.isnan(mean_s)
