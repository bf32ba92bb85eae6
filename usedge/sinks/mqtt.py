"""``mqtt://host[:port]/topic``: every reading at QoS 1, a retained state, Home Assistant's discovery."""

from __future__ import annotations

import json
import platform
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from usedge import __version__
from usedge.errors import InputError, MissingExtraError
from usedge.reading import Reading
from usedge.sinks import Station
from usedge.sinks.address import Address, parse_address, secret
from usedge.sinks.queued import TICK_S, Queued, SinkDownError
from usedge.sinks.told import link_state, stamped_json

try:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion
except ImportError:
    raise MissingExtraError("paho-mqtt", "mqtt") from None

PORT, PORT_TLS = 1883, 8883
OPTIONS = ("discovery", "state_s")
TOPIC = "usedge"
IN_FLIGHT = 20
ACK_S = 2.0
STATE_S = 1.0
KEEPALIVE_S = 15
LONGEST_RECONNECT_S = 10

SENSORS: dict[str, dict[str, Any]] = {
    "tof_us": {"name": "Time of flight", "unit_of_measurement": "µs", "state_class": "measurement",
               "icon": "mdi:timer-outline", "suggested_display_precision": 3},
    "distance_mm": {"name": "Distance", "unit_of_measurement": "mm", "device_class": "distance",
                    "state_class": "measurement", "suggested_display_precision": 3},
    "snr_db": {"name": "SNR", "unit_of_measurement": "dB", "state_class": "measurement",
               "icon": "mdi:signal", "entity_category": "diagnostic"},
    "confidence": {"name": "Confidence", "state_class": "measurement", "icon": "mdi:percent",
                   "entity_category": "diagnostic"},
    "abstain": {"name": "Abstention", "icon": "mdi:help-circle-outline", "entity_category": "diagnostic"},
    "link": {"name": "Link", "icon": "mdi:lan-connect", "entity_category": "diagnostic"},
    "received": {"name": "A-scans received", "state_class": "total_increasing", "icon": "mdi:counter",
                 "entity_category": "diagnostic"},
    "dropped": {"name": "A-scans dropped", "state_class": "total_increasing", "icon": "mdi:counter",
                "entity_category": "diagnostic"},
}
"""Home Assistant's words for each key of the state: homeassistant.io, MQTT sensor."""
OF_THE_LINK = ("link", "received", "dropped")


class Mqtt:
    """An outlet that publishes ``topic/reading`` and, retained, ``topic/state`` and ``topic/availability``.

    A reading is written once the broker has acknowledged it. What the broker had not acknowledged when the
    connection broke is sent once more after it, so that a reading may come twice, as QoS 1 has it.
    """

    def __init__(self, address: Address, station: Station) -> None:
        self._station = station
        self._topic = address.path.strip("/") or TOPIC
        if set("#+") & set(self._topic):
            raise InputError(f"topic {self._topic!r} holds # or +, which stand for any topic.",
                             f"Example: {address.scheme}://{address.host}/workshop/tank")
        self._discovery = address.options.text("discovery", "homeassistant")
        self._state_s = address.options.number("state_s", STATE_S, 0.1)
        self._in_flight: deque[int] = deque()
        self._acknowledged: set[int] = set()
        self._news = threading.Event()
        self._settled = threading.Event()
        self._newest: dict[str | None, Reading] = {}
        self._known: set[str | None] = set()
        self._state_due_s = 0.0
        self._why = "no answer yet"
        self._client = self._connect(address)

    def _connect(self, address: Address) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        user, password = address.user or secret("USEDGE_MQTT_USER"), secret("USEDGE_MQTT_PASSWORD")
        if user is not None:
            client.username_pw_set(user, address.password or password)
        if address.scheme == "mqtts":
            client.tls_set()
        client.will_set(f"{self._topic}/availability", "offline", qos=1, retain=True)
        client.max_inflight_messages_set(2 * IN_FLIGHT)
        client.reconnect_delay_set(1, LONGEST_RECONNECT_S)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_connect_fail, client.on_publish = self._unreachable, self._taken
        client.connect_async(address.host, address.port, KEEPALIVE_S)
        client.loop_start()
        return client

    # ---- called by paho, in its thread

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._why = f"the broker refuses: {reason}"
        else:
            self._known.clear()  # a broker that was restarted may have forgotten what it retained
            client.publish(f"{self._topic}/availability", "online", qos=1, retain=True)
        self._settled.set()

    def _disconnected(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any,
                      _properties: Any) -> None:
        if reason.is_failure and not self._why.startswith("the broker refuses"):
            self._why = "the connection to the broker broke"

    def _unreachable(self, _client: paho.Client, _data: Any) -> None:
        self._why = "the broker cannot be reached"
        self._settled.set()

    def _taken(self, _client: paho.Client, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._acknowledged.add(mid)
        self._news.set()

    # ---- called in the queue's thread

    def send(self, readings: Sequence[Reading]) -> int:
        """Publish the first IN_FLIGHT readings, and tell how many of them are acknowledged."""
        self._need_connection()
        topic = f"{self._topic}/reading"
        for reading in readings[len(self._in_flight) : IN_FLIGHT]:
            self._in_flight.append(self._client.publish(topic, stamped_json(reading), qos=1).mid)
            self._newest[reading.gate] = reading
        until = time.monotonic() + ACK_S
        while not (n := self._taken_off()):
            if time.monotonic() > until:
                raise SinkDownError("the broker does not acknowledge")
            self._need_connection()
            self._news.wait(TICK_S)
            self._news.clear()
        return n

    def _taken_off(self) -> int:
        """How many of the oldest in flight are acknowledged; they are in flight no more."""
        n = 0
        while self._in_flight and self._in_flight[0] in self._acknowledged:
            self._acknowledged.discard(self._in_flight.popleft())
            n += 1
        self._acknowledged.intersection_update(self._in_flight)
        return n

    def tick(self) -> None:
        """Publish the state, retained, every ``state_s``."""
        self._need_connection()
        if time.monotonic() < self._state_due_s:
            return
        self._state_due_s = time.monotonic() + self._state_s
        for gate, reading in self._states():
            self._announce(gate, reading)
            self._publish_retained(self._state_topic(gate), self._state(reading))

    def close(self) -> None:
        """Say goodbye: the will is for those who cannot."""
        if self._client.is_connected():
            for gate, reading in self._newest.items():
                self._publish_retained(self._state_topic(gate), self._state(reading) | {"link": "closed"})
            last = self._client.publish(f"{self._topic}/availability", "offline", qos=1, retain=True)
            last.wait_for_publish(ACK_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _states(self) -> list[tuple[str | None, Reading | None]]:
        return [*self._newest.items()] or [(None, None)]

    def _need_connection(self) -> None:
        self._settled.wait(ACK_S)
        if not self._client.is_connected():
            raise SinkDownError(self._why)
        self._why = "the connection to the broker broke"

    def _publish_retained(self, topic: str, content: dict[str, Any]) -> None:
        self._client.publish(topic, json.dumps(content), qos=1, retain=True)

    def _state_topic(self, gate: str | None) -> str:
        return f"{self._topic}/state" + (f"/{gate}" if gate else "")

    def _state(self, reading: Reading | None) -> dict[str, Any]:
        """The newest reading, the counters, the link."""
        told = {} if reading is None else json.loads(stamped_json(reading))
        if told:
            # Home Assistant takes an unknown value for a missing one; a reason is wanted in words.
            told["abstain"] = told["abstain"] or "none"
        prf_hz = self._station.prf_hz()
        return told | self._station.counters() | {"link": link_state(reading, prf_hz), "prf_hz": prf_hz}

    def _announce(self, gate: str | None, reading: Reading | None) -> None:
        """Tell Home Assistant of the sensors that this gate has, once for every connection."""
        if self._discovery == "no" or reading is None or gate in self._known:
            return
        first = not self._known
        self._known.add(gate)
        keys = [key for key, value in reading.to_dict().items() if key in SENSORS
                and (value is not None or key in {"tof_us", "abstain"})]
        for key in [*keys, *(OF_THE_LINK if first else ())]:
            place = _slug("_".join([self._topic, *([gate] if gate else []), key]))
            self._publish_retained(f"{self._discovery}/sensor/{place}/config", self._sensor(key, gate, place))

    def _sensor(self, key: str, gate: str | None, place: str) -> dict[str, Any]:
        words = dict(SENSORS[key])
        if gate and key not in OF_THE_LINK:
            words["name"] = f"{gate} {words['name']}"
        return words | {
            "unique_id": f"usedge_{place}", "object_id": place, "state_topic": self._state_topic(gate),
            "value_template": f"{{{{ value_json.{key} }}}}",
            "availability_topic": f"{self._topic}/availability",
            "device": {"identifiers": [f"usedge_{_slug(self._topic)}"], "name": f"usedge {self._topic}",
                       "manufacturer": "usedge", "model": platform.node(), "sw_version": __version__},
            "origin": {"name": "usedge", "sw_version": __version__},
        }


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text)


def open_mqtt(url: str, station: Station) -> Queued:
    """``mqtt://[user:password@]host[:port][/topic][?discovery=homeassistant|no&state_s=1]``, ``mqtts://…``."""
    address = parse_address(url, PORT_TLS if url.startswith("mqtts:") else PORT, OPTIONS)
    return Queued(address.name, Mqtt(address, station), station.say, address.options.backlog)
