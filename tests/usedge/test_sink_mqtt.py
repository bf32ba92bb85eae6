"""MQTT against a real broker, which is stopped, started and made to refuse."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("paho.mqtt.client", reason="the extra mqtt is not installed")

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.reading import Reading
from usedge.sinks import Station, open_sinks
from usedge.sinks.queued import Queued

DEADLINE_S = 60
GATED = AScan(np.zeros(8, np.int16), 1e6)
# Debian puts it where only root looks.
MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (Debian: mosquitto)")


def reading(seq: int, tof_us: float | None = 20.5) -> Reading:
    return Reading(seq, time.monotonic_ns(), tof_us, 3, 0.9, 21.0, tof_us and 15.2, 1500.0,
                   None if tof_us else "no_echo")


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Broker:
    """mosquitto, which keeps what it holds over a restart."""

    def __init__(self, folder: Path, more: str = "allow_anonymous true") -> None:
        self.port = free_port()
        (folder / "broker").mkdir()
        self.conf = folder / "broker" / "conf"
        self.conf.write_text(f"listener {self.port} 127.0.0.1\npersistence true\nuser root\n"
                             f"persistence_location {folder / 'broker'}/\n{more}\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self.conf)], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        until(self._answers, "mosquitto does not start")

    def _answers(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(DEADLINE_S)
            self.process = None


class Subscriber:
    """A client whose session the broker keeps, so that nothing is missed while either is away."""

    def __init__(self, port: int, *topics: str, name: str = "reader") -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = lambda _client, _data, message: self.messages.append(
            (message.topic, message.payload))
        self._client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in topics])
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(DEADLINE_S)

    def on(self, topic: str) -> list[Any]:
        found = [payload.decode() for at, payload in list(self.messages) if at == topic]
        return [json.loads(each) if each.startswith("{") else each for each in found]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = Broker(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def subscribe(broker: Broker) -> Iterator[Callable[..., Subscriber]]:
    made: list[Subscriber] = []

    def make(*topics: str) -> Subscriber:
        made.append(Subscriber(broker.port, *topics, name=f"reader-{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def opened(url: str, said: list[str]) -> Queued:
    counters = {"received": 70, "dropped": 2}
    return open_sinks([url], Station("sim://", said.append, lambda: counters, lambda: 50.0))[0]


@needs_broker
def test_a_broker_that_is_restarted_in_the_middle_misses_nothing(
        broker: Broker, subscribe: Callable[..., Subscriber]) -> None:
    reader, said = subscribe("tank/reading"), list[str]()
    sink = opened(f"mqtt://127.0.0.1:{broker.port}/tank", said)

    def seqs() -> set[int]:
        return {each["seq"] for each in reader.on("tank/reading")}

    for seq in range(100):
        sink.write(reading(seq), GATED)
    until(lambda: len(seqs()) >= 50, "nothing arrives")
    broker.stop()
    for seq in range(100, 400):
        sink.write(reading(seq), GATED)
    until(lambda: sink.state()["state"] == "failing", "the sink does not see that the broker is gone")
    broker.start()
    for seq in range(400, 500):
        sink.write(reading(seq), GATED)
    until(lambda: len(seqs()) == 500, f"only {len(seqs())} of 500 arrive")
    until(lambda: len(said) == 2, "its end is not told")
    sink.close()
    assert sink.state()["written"] == 500
    assert (sink.dropped, sink.state()["state"]) == (0, "ok")
    assert "fails: the connection to the broker broke" in said[0] or "cannot be reached" in said[0]
    assert "works again; no readings were lost" in said[1]


@needs_broker
def test_home_assistant_is_told_what_there_is_and_where(broker: Broker,
                                                        subscribe: Callable[..., Subscriber]) -> None:
    sink = opened(f"mqtt://127.0.0.1:{broker.port}/work/tank?state_s=0.1", [])
    sink.write(reading(1), GATED)
    until(lambda: sink.state()["written"] == 1, "it is not written")
    late = subscribe("homeassistant/#", "work/tank/state", "work/tank/availability")
    until(lambda: any("seq" in each for each in late.on("work/tank/state")), "no reading is in the state")
    until(lambda: late.on("work/tank/availability"), "nothing is retained")
    state = late.on("work/tank/state")[-1]
    assert (state["seq"], state["tof_us"], state["received"], state["link"]) == (1, 20.5, 70, "up")
    assert late.on("work/tank/availability") == ["online"]
    configs = {topic: json.loads(payload) for topic, payload in late.messages if topic.endswith("/config")}
    sensor = configs["homeassistant/sensor/work_tank_tof_us/config"]
    assert sensor["unit_of_measurement"] == "µs"
    assert len({each["unique_id"] for each in configs.values()}) == len(configs) >= 7
    for each in configs.values():
        assert each["state_topic"] == "work/tank/state"
        assert each["availability_topic"] == "work/tank/availability"
        key = each["value_template"].removeprefix("{{ value_json.").removesuffix(" }}")
        assert key in state
        assert each["device"]["identifiers"] == ["usedge_work_tank"]
    sink.close()
    until(lambda: late.on("work/tank/availability")[-1] == "offline", "it does not say goodbye")
    assert late.on("work/tank/state")[-1]["link"] == "closed"


@needs_broker
def test_the_broker_says_so_when_the_run_dies(broker: Broker,
                                              subscribe: Callable[..., Subscriber]) -> None:
    reader = subscribe("usedge/#")
    process = subprocess.Popen(
        [sys.executable, "-m", "usedge", "run", "--port", "sim://?prf=50", "--runtime", "classical",
         "--sink", f"mqtt://127.0.0.1:{broker.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: reader.on("usedge/availability") == ["online"] and reader.on("usedge/reading"),
          "no reading arrives")
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE_S)
    until(lambda: reader.on("usedge/availability")[-1] == "offline", "the last will is not published")


@needs_broker
def test_credentials_come_from_the_address_or_the_environment(tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run([tool, "-b", "-c", str(tmp_path / "users"), "probe", "se#same"], check=True)
    broker = Broker(tmp_path, f"allow_anonymous false\npassword_file {tmp_path / 'users'}")
    try:
        said: list[str] = []
        refused = opened(f"mqtt://127.0.0.1:{broker.port}/a", said)
        until(lambda: said, "nobody says that it is refused")
        refused.leave()
        assert "the broker refuses: Not authorized" in said[0]
        by_address = opened(f"mqtt://probe:se%23same@127.0.0.1:{broker.port}/b", said)
        monkeypatch.setenv("USEDGE_MQTT_USER", "probe")
        monkeypatch.setenv("USEDGE_MQTT_PASSWORD", "se#same")
        by_environment = opened(f"mqtt://127.0.0.1:{broker.port}/c", said)
        for sink in (by_address, by_environment):
            sink.write(reading(1), GATED)
            until(lambda sink=sink: sink.state()["written"] == 1, f"{sink.name} is not let in")  # type: ignore[misc]
            assert "sesame" not in sink.name
            sink.close()
        refused.close()
    finally:
        broker.stop()


def test_without_a_broker_the_backlog_is_bounded_and_the_rest_counted(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usedge.sinks.queued.FLUSH_S", 0.2)
    said: list[str] = []
    sink = opened(f"mqtt://127.0.0.1:{free_port()}/tank?backlog=10", said)
    until(lambda: said, "nobody says that there is no broker")
    for seq in range(25):
        sink.write(reading(seq), GATED)
    until(lambda: sink.dropped == 15, f"{sink.dropped} are dropped")
    sink.close()
    assert sink.state() == {"written": 0, "dropped": 25, "state": "failing",
                            "error": "the broker cannot be reached"}
    assert "fails: the broker cannot be reached. The newest 10 readings are kept" in said[0]
    assert "10 readings were left unwritten" in said[-1]


@pytest.mark.parametrize(("url", "says"), [
    ("mqtt://127.0.0.1/a/%23", "stand for any topic"), ("mqtt://127.0.0.1/a/#", "# is written %23"),
    ("mqtt://127.0.0.1:x/a", "no address"), ("mqtt:127.0.0.1", "there is no //"),
    ("mqtt://127.0.0.1/a?discover=no", "nearest known one is discovery"),
])
def test_addresses_that_are_none(url: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        opened(url, [])
