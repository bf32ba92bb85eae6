"""What Prometheus fetches, read by its own client library's parser."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from urllib.request import urlopen

import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")

from prometheus_client.parser import text_string_to_metric_families

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.reading import Reading
from usedge.sinks import Station, open_sinks
from usedge.sinks.queued import Queued
from usedge.tof import Difference

DEADLINE_S = 60
GATED = AScan(np.zeros(8, np.int16), 1e6)
COUNTERS = {"received": 40, "classified": 31, "abstained": 9, "dropped": 2, "seq_gaps": 1, "crc_errors": 3,
            "resyncs": 0, "reconnects": 0, "duplicated": 0, "deadline_misses": 4, "unread": 0, "sent": None}


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Fetched:
    """A sink and what is at its address."""

    def __init__(self) -> None:
        said: list[str] = []
        station = Station("sim://", said.append, lambda: COUNTERS, lambda: 50.0,
                          {"bundle": "field", "runtime": "litert"})
        self.sink: Queued = open_sinks(["prometheus://127.0.0.1:0"], station)[0]
        self.url = said[0].rpartition(" ")[2]

    def write(self, *readings: Reading) -> None:
        before = self.sink.state()["written"]
        for each in readings:
            self.sink.write(each, GATED)
        until(lambda: self.sink.state()["written"] == before + len(readings), "they are not taken")

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        with urlopen(self.url, timeout=DEADLINE_S) as answer:
            text = answer.read().decode()
        return {(each.name, tuple(sorted(each.labels.items()))): each.value
                for family in text_string_to_metric_families(text) for each in family.samples}

    def value(self, name: str, **labels: str) -> float:
        return self.samples()[name, tuple(sorted(labels.items()))]


@pytest.fixture
def fetched() -> Iterator[Fetched]:
    made = Fetched()
    yield made
    made.sink.close()


def reading(seq: int, tof_us: float | None = 20.5, latency_us: float = 1500.0,
            difference: Difference | None = None) -> Reading:
    return Reading(seq, time.monotonic_ns(), tof_us, 3, 0.9, 21.0, tof_us and 15.2, latency_us,
                   None if tof_us else "no_echo", difference)


def test_before_the_first_reading_there_are_counters_and_no_link(fetched: Fetched) -> None:
    assert fetched.value("usedge_link_up") == 0
    assert fetched.value("usedge_received_total") == 40
    assert not [name for name, _ in fetched.samples() if name.startswith("usedge_tof")]


def test_readings_counters_and_latency(fetched: Fetched) -> None:
    fetched.write(reading(1), reading(2, latency_us=1200.0), reading(3, latency_us=30_000.0))
    assert fetched.value("usedge_tof_seconds", gate="") == pytest.approx(20.5e-6)
    assert fetched.value("usedge_distance_meters", gate="") == pytest.approx(15.2e-3)
    assert fetched.value("usedge_snr_decibels", gate="") == 21.0
    assert fetched.value("usedge_confidence_ratio", gate="") == 0.9
    assert fetched.value("usedge_link_up") == 1
    assert fetched.value("usedge_prf_hertz") == 50.0
    for name, value in COUNTERS.items():
        if value is not None:
            assert fetched.value(f"usedge_{name}_total") == value
    assert ("usedge_sent_total", ()) not in fetched.samples()
    assert fetched.value("usedge_latency_seconds_count", gate="") == 3
    assert fetched.value("usedge_latency_seconds_sum", gate="") == pytest.approx(32.7e-3)
    assert fetched.value("usedge_latency_seconds_bucket", gate="", le="0.002") == 2
    assert fetched.value("usedge_latency_seconds_bucket", gate="", le="+Inf") == 3
    info = next(labels for name, labels in fetched.samples() if name == "usedge_run_info")
    assert ("bundle", "field") in info
    assert ("port", "sim://") in info


def test_an_abstention_is_no_number_and_is_counted_by_its_reason(fetched: Fetched) -> None:
    fetched.write(reading(1), reading(2, None), reading(3, None))
    assert math.isnan(fetched.value("usedge_tof_seconds", gate=""))
    assert math.isnan(fetched.value("usedge_distance_meters", gate=""))
    assert fetched.value("usedge_abstentions_total", gate="", reason="no_echo") == 2
    assert fetched.value("usedge_readings_total", gate="") == 3


def test_what_some_runs_add_is_told_as_well(fetched: Fetched) -> None:
    fetched.write(reading(1, difference=Difference(-2.5, 0.9, 20.0)))
    assert fetched.value("usedge_dtof_seconds", gate="") == pytest.approx(-2.5e-9)


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf":{port} cannot be opened \(Address already in use\)"):
            open_sinks([f"prometheus://127.0.0.1:{port}"], Station())
        process = subprocess.run(
            [sys.executable, "-m", "usedge", "run", "--port", "sim://", "--sink", f"prometheus://:{port}"],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert len(process.stderr.splitlines()) == 1
    assert "Give another port" in process.stderr


def test_without_a_host_only_this_machine_is_answered() -> None:
    sink = open_sinks(["prometheus://:0"], Station())[0]
    assert sink.name.startswith("prometheus://127.0.0.1:")
    sink.close()
