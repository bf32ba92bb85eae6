"""Plans of faults, and what the injector makes of frames under each of them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usedge_firmware import usfp
from usedge_firmware.faults import ALWAYS, KINDS, Fault, FaultPlan, FaultPlanError
from usedge_firmware.injector import Deed, Injector, Pause, Reboot, Unplug
from usedge_firmware.ledger import Ledger

SAMPLES = np.arange(-50, 50, dtype=np.int16)
ON_BYTES = ("flip", "loss", "insert", "burst", "truncate", "drop", "duplicate", "reorder", "text", "baud")
Frames = dict[int, bytes]


def frames(n: int) -> Frames:
    return {seq: usfp.encode_ascan(SAMPLES, seq=seq, fs_hz=1_000_000) for seq in range(n)}


def injected(spec: str, n: int, seed: int = 1) -> tuple[list[Deed], Injector]:
    injector = Injector(FaultPlan.parse(spec), seed=seed)
    deeds = [deed for seq, frame in frames(n).items() for deed in injector.send(frame, seq)]
    return deeds + injector.flush(), injector


def wire(deeds: list[Deed]) -> bytes:
    return b"".join(each for each in deeds if isinstance(each, bytes))


def received(stream: bytes) -> list[int]:
    decoder = usfp.Decoder()
    return [each.seq for each in decoder.feed(stream) + decoder.finish()]


def rates() -> st.SearchStrategy[str]:
    def fault(name: str) -> st.SearchStrategy[str]:
        kind = KINDS[name]
        rate = st.floats(0.0, 1.0).map(repr)
        if not kind.unit:
            return rate.map(lambda each: f"{name}={each}")
        least, most = kind.least, kind.most
        sizes = st.integers(int(least), int(most)) if kind.whole else st.floats(least, most)
        return st.tuples(rate, sizes).map(lambda each: f"{name}={each[0]}:{each[1]}")

    return st.lists(st.sampled_from(list(KINDS)), unique=True).flatmap(
        lambda names: st.tuples(*map(fault, names)).map(",".join)
    )


@given(rates(), st.floats(0.0, 1e6), st.floats(-1e5, 1e5))
def test_a_plan_is_what_its_text_says(spec: str, jitter_us: float, drift_ppm: float) -> None:
    plan = FaultPlan.parse(f"{spec},jitter={jitter_us}us,drift={drift_ppm}ppm")
    assert (plan.jitter_us, plan.drift_ppm) == (jitter_us, drift_ppm)
    assert FaultPlan.parse(str(plan)) == plan


@given(st.text(max_size=60))
def test_any_text_is_a_plan_or_refused(spec: str) -> None:
    try:
        plan = FaultPlan.parse(spec)
    except FaultPlanError:
        return
    assert FaultPlan.parse(str(plan)) == plan


def test_sizes_have_defaults_and_times_have_units() -> None:
    plan = FaultPlan.parse(" flip=0.5, burst=1 ,loss=0.25:9,stall=0.1:0.5,jitter=0.2ms,drift=-5ppm,")
    assert plan.faults == {
        "flip": Fault(0.5, 0), "burst": Fault(1.0, 64), "loss": Fault(0.25, 9), "stall": Fault(0.1, 0.5),
    }
    assert (plan.jitter_us, plan.drift_ppm) == (200.0, -5.0)
    assert FaultPlan.parse("jitter=200us") == FaultPlan.parse("jitter=0.0002s")
    assert FaultPlan.parse("") == FaultPlan()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("flop=0.1", "'flop' is unknown, nearest is 'flip'. Known: flip, loss, "),
        ("reordr=0.1", "nearest is 'reorder'"),
        ("flip=1.5", "rate of fault 'flip' is 0 to 1, not '1.5'"),
        ("flip=-0.1", "not '-0.1'"),
        ("flip=nan", "not 'nan'"),
        ("flip=", "not ''"),
        ("flip", "'flip' has no value"),
        ("flip=0.1,flip=0.2", "'flip=0.2' stands twice"),
        ("flip=0.1:3", "'flip' has no size, not '3'"),
        ("loss=0.1:0", "size in bytes of fault 'loss' is 1 to 65536, not '0'"),
        ("burst=0.1:2.5", "'burst' takes a whole number of bytes, not '2.5'"),
        ("stall=0.1:1e9", "size in s of fault 'stall'"),
        ("jitter=200", "'jitter' is a value with its unit such as 200us, not '200'"),
        ("jitter=2ppm", "not '2ppm'"),
        ("jitter=-1us", "not '-1'"),
        ("drift=1e6ppm", "not '1e6'"),
        ("drift=5us", "such as 50ppm, not '5us'"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_value(spec: str, words: str) -> None:
    with pytest.raises(FaultPlanError, match=re.escape(words)):
        FaultPlan.parse(spec)


def test_no_faults_change_nothing() -> None:
    deeds, injector = injected("", 20)
    assert deeds == list(frames(20).values())
    assert injector.ledger.totals()["intact"] == 20


@pytest.mark.parametrize("spec", [f"{name}=0.3" for name in ON_BYTES] + ["stall=0.3:0.001", "disconnect=0.3"])
def test_every_fault_happens_is_noted_and_repeats_with_its_seed(spec: str) -> None:
    name = spec.partition("=")[0]
    deeds, injector = injected(spec, 200)
    totals = injector.ledger.totals()
    assert totals["faults"].keys() == {name}
    assert 30 <= totals["faults"][name] <= 90
    assert totals["intact"] + totals["damaged"] + totals["dropped"] == totals["sent"] == 200
    assert injected(spec, 200)[0] == deeds
    assert injected(spec, 200, seed=2)[0] != deeds


@pytest.mark.parametrize("name", ON_BYTES)
def test_the_ledger_says_what_a_host_then_finds(name: str) -> None:
    deeds, injector = injected(f"{name}=0.2", 500)
    seqs = Counter(received(wire(deeds)))
    totals = injector.ledger.totals()
    assert len(seqs) == totals["intact"] < 500 or name in ("duplicate", "reorder", "text", "insert")
    assert seqs.total() == totals["intact"] + totals["copies"]


def test_what_each_frame_level_fault_does() -> None:
    whole = wire(list(frames(300).values()))  # type: ignore[arg-type]
    duplicated, injector = injected("duplicate=0.2", 300)
    assert wire(duplicated) != whole
    assert sorted({*received(wire(duplicated))}) == list(range(300))
    copies = len(received(wire(duplicated))) - 300
    assert injector.ledger.copies == injector.ledger.faults["duplicate"] == copies
    order = received(wire(injected("reorder=0.2", 300)[0]))
    assert sorted(order) == list(range(300)) != order
    assert max(abs(seq - place) for place, seq in enumerate(order)) == 1
    dropped, injector = injected("drop=0.2", 300)
    assert len(received(wire(dropped))) == 300 - injector.ledger.dropped < 300
    texts = wire(injected("text=1", 10)[0])
    assert received(texts) == list(range(10))
    assert len(texts) >= len(wire(list(frames(10).values()))) + 10 * 4  # type: ignore[arg-type]
    assert texts[:4].isascii()


def test_a_held_frame_is_not_lost_at_the_end_nor_put_behind_an_answer() -> None:
    injector = Injector(FaultPlan.parse("reorder=1"), seed=1)
    first, second = frames(2).values()
    assert injector.send(first, 0) == []
    assert injector.spare(b"answer") == [first, b"answer"]
    assert injector.send(second, 1) == []
    assert injector.flush() == [second]
    assert injector.ledger.totals()["intact"] == 2


def test_a_burst_over_a_boundary_damages_both_frames_and_no_third() -> None:
    for seed in range(60):
        injector = Injector(FaultPlan.parse("burst=1:40"), seed=seed)
        deeds = injector.send(frames(1)[0], 0)
        injector._rates = []
        for seq, frame in list(frames(4).items())[1:]:
            deeds += injector.send(frame, seq)
        damaged = injector.ledger.damaged
        assert damaged == (2 if wire(deeds)[244:248] != usfp.SYNC else 1)
        assert received(wire(deeds)) == list(range(4))[damaged:]
    assert injector.ledger.faults["burst"] == 1


def test_every_byte_of_a_burst_is_wrong() -> None:
    injector = Injector(FaultPlan.parse("burst=1:65536"), seed=3)
    frame = bytes(5000)
    at = len(frame) - len(wire(injector.send(frame, 0)).lstrip(b"\0"))
    assert 0 not in wire(injector.send(frame, 1))[at:]


def test_pauses_and_cuts_come_inside_the_frame() -> None:
    frame = frames(1)[0]
    before, pause, after = Injector(FaultPlan.parse("stall=1:0.5"), seed=1).send(frame, 0)
    assert pause == Pause(0.5)
    assert isinstance(before, bytes)
    assert isinstance(after, bytes)
    assert before + after == frame
    for spec, ending in (("disconnect=1:2", Unplug(2.0)), ("reset=1:2", Reboot(2.0))):
        injector = Injector(FaultPlan.parse(spec), seed=1)
        head, cut = injector.send(frame, 0)
        assert cut == ending
        assert isinstance(head, bytes)
        assert frame.startswith(head)
        assert 0 < len(head) <= len(frame) - 8
        assert injector.ledger.damaged == 1


def test_messages_are_never_dropped_repeated_or_reordered() -> None:
    injector = Injector(FaultPlan.parse("drop=1,duplicate=1,reorder=1"), seed=1)
    assert injector.send(b"message") == [b"message"]
    assert injector.ledger.totals()["messages"] == 1


def test_saturation_clips_at_the_adc_and_leaves_the_recording() -> None:
    injector = Injector(FaultPlan.parse("saturate=1:50"), seed=1, adc_bits=12)
    samples = SAMPLES.copy()
    clipped = injector.samples(samples, 0)
    np.testing.assert_array_equal(clipped, np.clip(SAMPLES.astype(int) * 50, -2048, 2047))
    assert clipped.dtype == np.int16
    np.testing.assert_array_equal(samples, SAMPLES)
    extremes = np.array([-32768, 32767], np.int16)
    injector = Injector(FaultPlan.parse("saturate=1"), seed=1)
    np.testing.assert_array_equal(injector.samples(extremes, 0), extremes)
    with pytest.raises(FaultPlanError, match="17"):
        Injector(FaultPlan(), seed=1, adc_bits=17)


def test_jitter_stays_within_its_bounds_and_sessions_follow_the_seed() -> None:
    injector = Injector(FaultPlan.parse("jitter=200us"), seed=1)
    shifts = [injector.jitter_us() for _ in range(500)]
    assert -200 <= min(shifts) < -150
    assert 150 < max(shifts) <= 200
    sessions = [Injector(FaultPlan(), seed=seed).session_id() for seed in (1, 1, 2)]
    assert sessions[0] == sessions[1] != sessions[2]


def test_the_page_shows_the_table_of_the_code(room: Path) -> None:
    page = (room.parent / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    shown = [[each.strip() for each in row] for row in rows]
    hits = [
        [f"`{name}`", kind.meaning, kind.unit or "–", f"{kind.default:g}" if kind.unit else "–"]
        for name, kind in KINDS.items()
    ]
    assert shown == [*hits, *([f"`{name}`", kind.meaning, kind.unit] for name, kind in ALWAYS.items())]


def test_a_ledger_of_its_own_is_kept_without_a_file() -> None:
    ledger = Ledger(seed=4, plan="drop=1.0")
    Injector(FaultPlan.parse("drop=1"), seed=4, ledger=ledger).send(b"frame", 0)
    assert ledger.totals()["dropped"] == 1
