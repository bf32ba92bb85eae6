"""`usedge bench sinks`: what it counts as lost, and one short run with sinks that are really there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from usedge.errors import InputError
from usedge.resources import suite
from usedge_bench import sinks
from usedge_bench.suite import SinksSuite, load_suite

KEPT = ("jsonl", "record", "influx")


def numbers() -> SinksSuite:
    loaded = load_suite(suite("sinks"))
    assert isinstance(loaded, SinksSuite)
    return loaded


def summary(**changes: Any) -> dict[str, Any]:
    told = {"received": 100, "classified": 60, "abstained": 40, "dropped": 0, "unread": 0, "sent": 100,
            "recorded": 100} | changes
    return {"sinks": {"csv:a": {"written": told["classified"] + 40, "dropped": 0}}} | told


def test_a_run_in_which_all_came_through_lost_nothing() -> None:
    assert sinks.losses(summary(), 100, 100) == []


@pytest.mark.parametrize(("changes", "told"), [
    ({"received": 99, "classified": 59}, ["99 of 100 received"]),
    ({"dropped": 3, "classified": 57}, ["3 dropped"]),
    ({"classified": 57}, ["3 unaccounted"]),
    ({"sent": None}, ["the device says it sent None"]),
    ({"recorded": 98}, ["98 recorded of 100"]),
    ({"sinks": {"web://x": {"written": 90, "dropped": 10}}}, ["web://x wrote 90 of 100, 10 dropped"]),
    ({"sinks": {"web://x": {"written": 90, "dropped": 0}}}, ["web://x wrote 90 of 100, 0 dropped"]),
])
def test_whatever_is_missing_is_told(changes: dict[str, Any], told: list[str]) -> None:
    account = summary(**changes)
    assert sinks.losses(account, 100, account["classified"] + account["abstained"]) == told


def test_readings_that_stdout_did_not_have_are_told() -> None:
    assert sinks.losses(summary(), 100, 99) == ["99 of 100 readings on stdout"]


def test_a_page_over_its_limit_and_a_loss_fail_the_suite() -> None:
    report = {"together": [{"prf_hz": 200.0, "lost": ["3 dropped"]}, {"prf_hz": 50.0, "lost": []}],
              "added_cores": {"web": 0.2, "csv": 0.5}}
    assert sinks.failures(report, 0.1) == ["200 Hz: 3 dropped",
                                           "the live page adds 20.0% of a core, limit 10%"]
    assert len(sinks.failures(report, 0.3)) == 1
    assert len(sinks.failures(report | {"added_cores": {}}, 0.1)) == 1


def test_what_was_not_measured_is_no_figure() -> None:
    assert sinks.added_cores({"cores": 0.25}, {"cores": 0.2}) == 0.05
    assert sinks.added_cores({"cores": None}, {"cores": 0.2}) is None


def test_lengths_that_pair_with_no_prf_are_refused() -> None:
    with pytest.raises(InputError, match="differ in number"):
        sinks.run_sinks(replace(numbers(), samples=(400.0,)), lambda _: None)


def test_every_sink_on_a_short_run_has_every_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    # As many A-scans as the queue holds: none is dropped, however slow the machine.
    monkeypatch.setattr(sinks, "usable", lambda _: (list(KEPT), {}))
    few = replace(numbers(), prfs_hz=(20.0,), samples=(256.0,), stretch_s=2.0, single_s=1.0, settle_s=0.1,
                  web_cores=100.0)
    report = sinks.run_sinks(few, lambda _: None)
    assert report["failed"] == []
    [together] = report["together"]
    assert (together["ascans"], together["recorded"]) == (40, 40)
    assert {name.partition(":")[0]: state["written"] for name, state in together["sinks"].items()} == {
        "jsonl": 40, "influx+udp": 40}
    assert together["got"] == {"influx": 40}
    assert list(report["alone"]) == ["none", *KEPT]
    table = sinks.as_table(report)
    assert "| 20 Hz × 256 | 40 | none |" in table
    assert "| influx |" in table
