"""The live page in a browser: headless Chromium, spoken to over its debugging pipe."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra web is not installed")

from usedge.ascan import AScan
from usedge.reading import Reading
from usedge.sinks import Station, open_sinks

DEADLINE_S = 60
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")
TAKE_ENDS = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""
PHONE, DESKTOP = (390, 844), (1280, 900)


class Browser:
    """Chromium with one tab, driven by the DevTools protocol, whose messages end in a zero byte."""

    def __init__(self, home: Path) -> None:
        assert CHROMIUM is not None
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # Out of the way of 3 and 4, which the browser reads from and writes to.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (theirs_in, theirs_out)]
        self._process = subprocess.Popen(
            [sys.executable, "-ISc", TAKE_ENDS, *map(str, ends), CHROMIUM, "--headless", "--no-sandbox",
             "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
             f"--user-data-dir={home}", "about:blank"],
            pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (*ends, theirs_in, theirs_out):
            os.close(end)
        self._received, self._number, self._session = b"", 0, None
        self.faults: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.faults.append(json.dumps(answer["params"]["exceptionDetails"]))
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.faults.append(answer["params"]["entry"]["text"])

    def _next(self) -> Any:
        while b"\0" not in self._received:
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "Chromium has ended"
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def open(self, url: str, size: tuple[int, int], scheme: str) -> None:
        width, height = size
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=size == PHONE)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self, part: str) -> str:
        return str(self.js(f"document.getElementById('{part}')?.textContent ?? ''"))

    def picture(self, path: Path) -> tuple[int, int]:
        """Store a picture of the window, and give its size in pixels."""
        content = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(content)
        width, height = struct.unpack(">II", content[16:24])
        return width, height

    def close(self) -> None:
        self._session = None
        os.write(self._out, b'{"id": 0, "method": "Browser.close"}\0')
        self._process.wait(DEADLINE_S)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


class Shown:
    """A page and the readings that it is given; the echo stands where the ToF is."""

    def __init__(self, url: str) -> None:
        said: list[str] = []
        self.seq = 0
        station = Station("sim://", said.append, lambda: {"received": self.seq, "crc_errors": 3},
                          lambda: 50.0)
        self.sink: Any = open_sinks([url], station)[0]
        self.url = said[0].rpartition(" ")[2]

    def write(self, tof_us: float | None, abstain: str | None = None) -> None:
        self.seq += 1
        t_us = np.arange(1200) / 20.0 + 4.0
        burst = np.exp(-((t_us - (tof_us or -9) - 1) ** 2)) * np.sin(2 * np.pi * 2 * t_us)
        noise = np.random.default_rng(self.seq).normal(0, 20, 1200)
        whole = AScan((2000 * burst + noise).astype(np.int16), 20e6, t0_us=4.0)
        self.sink.watch(whole)
        self.sink.write(Reading(self.seq, time.monotonic_ns(), tof_us, 3, 0.93, 21.0, None, 1500.0, abstain),
                        AScan(whole.samples[100:900], 20e6, t0_us=9.0))


@pytest.fixture
def shown() -> Iterator[Shown]:
    made = Shown("web://127.0.0.1:0")
    yield made
    made.sink.close()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


COLOURS = """(() => {
  const canvas = document.getElementById('%s'), pen = canvas.getContext('2d'), seen = new Set();
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) seen.add(data.slice(i, i + 3).join());
  return [...seen];
})()"""


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (PHONE, "dark"), (DESKTOP, "light"),
                                              (DESKTOP, "dark")])
def test_the_page_follows_the_readings(browser: Browser, shown: Shown, tmp_path: Path,
                                       size: tuple[int, int], scheme: str) -> None:
    browser.open(shown.url, size, scheme)
    shown.write(20.5)
    until(lambda: browser.text("tof") == "20.500 µs", "the time of flight is not shown")
    assert browser.text("link") == "link up"
    shown.write(31.25)
    until(lambda: browser.text("tof") == "31.250 µs", "the page does not follow")
    until(lambda: "corrupted3" in browser.text("counters"), "the counters are not shown")
    assert "sim://" in browser.text("port")
    tof_colour = {"light": "194,24,91", "dark": "255,111,163"}[scheme]
    for canvas in ("ascan", "history"):
        until(lambda canvas=canvas: tof_colour in browser.js(COLOURS % canvas),  # type: ignore[misc]
              f"{canvas} does not mark the time of flight")
    assert len(browser.js(COLOURS % "latency")) > 1
    assert browser.js("document.documentElement.scrollWidth") <= size[0]
    assert browser.picture(tmp_path / f"{size[0]}-{scheme}.png") == size
    shown.write(None, "saturated")
    until(lambda: browser.text("tof") == "Saturated", "the abstention is not shown")
    assert "lower the gain" in browser.text("why")
    until(lambda: browser.text("abstentions") == "Saturated1", "the reason is not counted")
    assert browser.faults == []


def test_a_page_that_is_paused_stands_still_and_goes_on(browser: Browser, shown: Shown) -> None:
    browser.open(shown.url, DESKTOP, "light")
    shown.write(20.5)
    until(lambda: browser.text("tof") == "20.500 µs", "the time of flight is not shown")
    assert browser.text("view") == "Gate alone"
    browser.js("document.getElementById('view').click()")
    assert browser.text("view") == "Whole"
    browser.js("document.getElementById('pause').click()")
    shown.write(31.25)
    until(lambda: shown.sink.state()["written"] == 2, "it is not counted")
    time.sleep(0.5)
    assert browser.text("tof") == "20.500 µs"
    browser.js("document.getElementById('pause').click()")
    until(lambda: browser.text("tof") == "31.250 µs", "it does not go on")
    assert browser.faults == []


def test_the_end_of_a_run_is_said_and_the_last_state_stays(browser: Browser, shown: Shown) -> None:
    browser.open(shown.url, DESKTOP, "light")
    shown.write(20.5)
    until(lambda: browser.text("tof") == "20.500 µs", "the time of flight is not shown")
    shown.sink.close()
    until(lambda: browser.text("link") == "run has ended", "nobody says that the run has ended")
    assert browser.text("tof") == "20.500 µs"
    assert browser.js("document.getElementById('trouble').hidden") is True


def test_the_token_opens_the_page_and_leaves_the_address_bar(browser: Browser) -> None:
    guarded = Shown("web://127.0.0.1:0?token=open%20sesame")
    try:
        browser.open(guarded.url.partition("?")[0], DESKTOP, "light")
        until(lambda: "needs the token" in str(browser.js("document.body.textContent")), "it is not refused")
        assert len(browser.faults) == 1  # Chromium's own line on the 403
        browser.faults.clear()
        browser.open(guarded.url, DESKTOP, "light")
        guarded.write(20.5)
        until(lambda: browser.text("tof") == "20.500 µs", "the token does not open the page")
        assert "sesame" not in browser.js("location.href")
        assert browser.faults == []
    finally:
        guarded.sink.close()
