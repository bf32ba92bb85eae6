"""``prometheus://host:port``: readings, counters and a latency histogram for Prometheus to fetch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from usedge import __version__
from usedge.errors import InputError, MissingExtraError
from usedge.reading import Reading
from usedge.sinks import Station
from usedge.sinks.address import Address, parse_address
from usedge.sinks.queued import Queued
from usedge.sinks.told import link_state

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise MissingExtraError("prometheus-client", "prometheus") from None

PORT = 9464
LATENCY_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STOP_S = 2.0

GAUGES = {
    "tof_us": ("usedge_tof_seconds", "Time of flight of the newest reading; NaN where it abstains.", 1e-6),
    "distance_mm": ("usedge_distance_meters", "Distance of the newest reading.", 1e-3),
    "distance_sd_mm": ("usedge_distance_sd_meters", "Standard uncertainty of that distance.", 1e-3),
    "dtof_ns": ("usedge_dtof_seconds", "Difference of the newest reading to the reference A-scan.", 1e-9),
    "smoothed_us": ("usedge_tof_smoothed_seconds", "Smoothed time of flight.", 1e-6),
    "confidence": ("usedge_confidence_ratio", "Confidence of the newest reading.", 1.0),
    "snr_db": ("usedge_snr_decibels", "SNR of the newest reading.", 1.0),
}
"""Key of a reading → name, help, factor to the base unit."""
HELP = {
    "received": "A-scans received.", "classified": "A-scans with a time of flight.",
    "abstained": "A-scans without an answer.", "dropped": "A-scans that were never classified.",
    "crc_errors": "Frames whose checksum was wrong.", "resyncs": "Times that the stream was found again.",
    "seq_gaps": "A-scans lost on the wire.", "reconnects": "Times that the port was opened again.",
    "duplicated": "Second copies, passed over.", "deadline_misses": "Readings later than one period.",
    "sent": "A-scans sent, as the device counts them.",
}


class Told:
    """What is asked of the run when Prometheus asks: gauges of the newest readings, counters, the link."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self.newest: dict[str, Reading] = {}

    def collect(self) -> Iterable[Metric]:
        """All of it, as it is now."""
        newest = dict(self.newest)
        yield from self._link(newest)
        for key, (name, text, factor) in GAUGES.items():
            family = GaugeMetricFamily(name, text, labels=["gate"])
            for gate, reading in newest.items():
                values = reading.to_dict()
                if key in values:
                    value = values[key]
                    family.add_metric([gate], math.nan if value is None else value * factor)
            if family.samples:
                yield family
        yield from self._counters()

    def _link(self, newest: dict[str, Reading]) -> Iterable[Metric]:
        last = max(newest.values(), key=lambda reading: reading.t_ns, default=None)
        prf_hz = self._station.prf_hz()
        up = link_state(last, prf_hz) == "up"
        yield GaugeMetricFamily("usedge_link_up", "1 while A-scans come in.", float(up))
        if prf_hz:
            yield GaugeMetricFamily("usedge_prf_hertz", "A-scans a second, as the device says.", prf_hz)
        facts = {"version": __version__, "port": self._station.port} | self._station.facts
        yield InfoMetricFamily("usedge_run", "What runs here.", facts)

    def _counters(self) -> Iterable[Metric]:
        for key, value in self._station.counters().items():
            if isinstance(value, int):
                text = HELP.get(key, f"The summary's {key}.")
                yield CounterMetricFamily(f"usedge_{key}", text, float(value))


class _Asked(Collector):
    """``Told`` as the client library wants it; nothing is told when it is registered."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def describe(self) -> Iterable[Metric]:
        """No names ahead: those of gauges depend on what the run has."""
        return []

    def collect(self) -> Iterable[Metric]:
        """As ``Told`` has it."""
        return self._told.collect()


class Prometheus:
    """An outlet that serves ``/metrics``; raises InputError where the address cannot be opened."""

    def __init__(self, address: Address, station: Station) -> None:
        registry = CollectorRegistry()
        self._told = Told(station)
        registry.register(_Asked(self._told))
        labels = ["gate"]
        self._latency = Histogram("usedge_latency_seconds", "From the last byte of an A-scan to its reading.",
                                  labels, buckets=LATENCY_S, registry=registry)
        self._readings = Counter("usedge_readings", "Readings.", labels, registry=registry)
        self._abstentions = Counter("usedge_abstentions", "Readings without an answer, by reason.",
                                    [*labels, "reason"], registry=registry)
        try:
            self._server, self._thread = start_http_server(address.port, address.host, registry)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{address.name} cannot be opened ({why}).",
                             f"Give another port: prometheus://{address.host}:{PORT + 1}") from error

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def send(self, readings: Sequence[Reading]) -> int:
        """Count ``readings``."""
        for reading in readings:
            gate = str(_value(reading, "gate") or "")
            self._told.newest[gate] = reading
            self._latency.labels(gate).observe(reading.latency_us * 1e-6)
            self._readings.labels(gate).inc()
            if reading.abstain is not None:
                self._abstentions.labels(gate, reading.abstain).inc()
        return len(readings)

    def tick(self) -> None:
        """Nothing is due: Prometheus asks when it wants to know."""

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_S)


def _value(reading: Reading, key: str) -> Any:
    return reading.to_dict().get(key)


def open_prometheus(url: str, station: Station) -> Queued:
    """``prometheus://[host][:port]``, default 127.0.0.1:9464."""
    address = parse_address(url, PORT, ())
    outlet = Prometheus(address, station)
    station.say(f"metrics are at http://{address.host}:{outlet.port}/metrics")
    return Queued(address.name, outlet, station.say, address.options.backlog)
