"""Which plots a suite's report is shown by: one function a suite, its line in PLOTS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from usedge_bench.page.canvas import short
from usedge_bench.page.kinds import Draw, bars, bars_height_in, curves, distribution, points, timeline
from usedge_bench.reports.shapes.common import rounds_of

WHOLE = "wire_to_reading"
HEIGHT_IN = 2.4


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot, its ``title``, and a line ``about`` how to read it."""

    title: str
    about: str
    draw: Draw
    height_in: float = HEIGHT_IN


def _bar_plot(title: str, about: str, items: list[tuple[str, float, str]], label: str, log: bool = False,
              marks: list[float | None] | None = None) -> Iterator[Plot]:
    if items:
        yield Plot(title, about, bars(items, label, log, marks or []), bars_height_in(len(items)))


def _latency(report: dict[str, Any]) -> Iterator[Plot]:
    values = {stage: each for stage, each in report["values_us"].items() if each}
    if WHOLE in values:
        rate = report["settings"].get("prf_hz") or 1.0
        yield Plot("Share of A-scans within a time", "a steep line has no tail; from 99 to 99.9 % is as far"
                   " as from 90 to 99 %", distribution(values, "µs", WHOLE))
        rounds = rounds_of(report)
        about = f"{rounds} rounds one behind the other, each in a process of its own" if rounds > 1 else (
            "in A-scans of the same stretch")
        yield Plot("Wire to reading over the run", f"at {rate:g} Hz, {about}",
                   timeline(values[WHOLE], "µs", rate, rounds))
    yield from _rounds(report.get("rounds", []))
    means = {stage: fmean(each) for stage, each in values.items()}
    whole = means.pop(WHOLE, 0.0)
    rest = whole - sum(means.values())
    if whole > 0:
        parts = {**means, **({"between the stages": rest} if rest > 0.005 * whole else {})}
        items = [(name, us, f"{us:,.0f} µs · {us / whole:.0%}") for name, us in parts.items()]
        yield from _bar_plot("Where the time goes", f"means, which add up to {whole:,.0f} µs from wire to"
                             " reading", items, "µs")
    peers = [(peer["name"], peer["p50_us"], f"{peer['p50_us']:,.0f} µs") for peer in report["peers"]]
    yield from _bar_plot("The network alone, by runtime", "one thread, in turns in one process; bars p50,"
                         " strokes p99", peers, "µs", marks=[peer["p99_us"] for peer in report["peers"]])


def _rounds(rounds: list[dict[str, float]]) -> Iterator[Plot]:
    names = {"wire_to_reading_us": "wire to reading", "idle_us": "the same at the idle PRF",
             "pace_us": "fixed work: the machine's pace"}
    groups = {}
    for key, name in names.items():
        medians = [each[key] for each in rounds if each.get(key)]
        if len(medians) > 1:
            groups[name] = [100 * each / median(medians) for each in medians]
    if groups:
        yield Plot("Do the rounds agree?", "the median of each round over the middle of all: points apart"
                   " tell of a machine that changed its pace", points(groups, "% of the middle round", 100.0),
                   bars_height_in(len(groups)))


def _openloop(report: dict[str, Any]) -> Iterator[Plot]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(report["rows"], key=lambda row: float(row["prf_hz"])):
        rows.setdefault(row["contender"], []).append(row)
    if not rows:
        return
    for share, said in (("p50", "half of the A-scans are read within"), ("p99", "99 of 100 are read within")):
        series = {name: ([row["prf_hz"] for row in own], [row["latency"][f"{share}_us"] for row in own])
                  for name, own in rows.items()}
        prfs = sorted({row["prf_hz"] for row in report["rows"]})
        series["due again"] = (prfs, [1e6 / prf for prf in prfs])
        yield Plot(f"{share} from when an A-scan was due", f"{said}; none where that many were never read;"
                   " over the line \"due again\" the next A-scan was due already",
                   curves(series, "PRF, Hz", "µs", logs="xy", marked=True, guide="due again"))
    misses = {name: ([row["prf_hz"] for row in own], [100 * row["miss_share"] for row in own])
              for name, own in rows.items()}
    yield Plot("Deadline misses", "A-scans without a reading when the next one was due",
               curves(misses, "PRF, Hz", "% of A-scans", logs="x", marked=True, percent=True))


def _throughput(report: dict[str, Any]) -> Iterator[Plot]:
    items = [(row["contender"], row["sustained_hz"], f"{row['sustained_hz']:,.0f} A-scans/s")
             for row in report["rows"] if row["sustained_hz"]]
    yield from _bar_plot("A-scans a second without a loss", "strokes: the lowest PRF with a loss", items,
                         "A-scans/s", marks=[row["first_loss_hz"] for row in report["rows"]
                                             if row["sustained_hz"]])


def _memory(report: dict[str, Any]) -> Iterator[Plot]:
    series = {picker: ([at for at, *_ in points], [rss for _, rss, *_ in points])
              for picker, points in ((name, [each for each in curve["points"] if len(each) >= 2])
                                     for name, curve in report["curves"].items()) if points}
    if series:
        yield Plot("Resident memory over the run", "RSS of a fresh usedge run",
                   curves(series, "A-scans", "MB"))
    packages = sorted(report["install"]["packages"], key=lambda each: -float(each["mb"]))[:12]
    yield from _bar_plot("What is installed", f"{report['install']['total_mb']:,.0f} MB in all; the largest",
                         [(f"{each['name']} {each['version']}", each["mb"], f"{each['mb']:,.1f} MB")
                          for each in packages], "MB")


def _startup(report: dict[str, Any]) -> Iterator[Plot]:
    groups = {f"{contender}, {start}": values for contender, starts in report["values_s"].items()
              for start, values in starts.items() if values}
    if groups:
        yield Plot("Process start to first reading", "every round a point, strokes their medians",
                   points(groups, "s"), bars_height_in(len(groups)))


def _accuracy(report: dict[str, Any]) -> Iterator[Plot]:
    rows = [row for row in report["rows"] if row["source"] == "all" and row["hit_half_period"] is not None]
    yield from _bar_plot("Within half a period", "share of all echo gates; a miss is no hit",
                         [(row["method"], 100 * row["hit_half_period"], f"{row['hit_half_period']:.1%}")
                          for row in rows], "% of echo gates")
    groups = _groups(report["scorecard"])
    if groups:
        names = [name for name, _, _ in groups]
        methods = dict.fromkeys(method for _, _, found in groups for method in found)
        series = {method: (list(range(len(groups))), [
            None if found.get(method) is None else 100 * found[method] for _, _, found in groups])
            for method in methods}
        yield Plot("Within half a period, by SNR", "SNR of the gate in dB; under it the number of echo gates",
                   _over_groups(series, [f"{short(name, 10)}\n{count}" for name, count in
                                         zip(names, (n for _, n, _ in groups), strict=True)]))


def _over_groups(series: dict[str, Any], names: list[str]) -> Draw:
    draw_lines = curves(series, "", "% of echo gates", marked=True, percent=True)

    def draw(axes: Any) -> None:
        draw_lines(axes)
        axes.set_xticks(range(len(names)), names)

    return draw


def _groups(scorecard: Any) -> list[tuple[str, int, dict[str, Any]]]:
    """(band, echo gates, hit rate by method) of every band of SNR that has echo gates."""
    found = []
    groups = scorecard.get("groups") if isinstance(scorecard, dict) else None
    for group in (groups.get("snr_db") if isinstance(groups, dict) else None) or []:
        if isinstance(group, dict) and group.get("n_echo") and isinstance(group.get("methods"), dict):
            rates = {str(method): each.get("hit_half_period") for method, each in group["methods"].items()
                     if isinstance(each, dict) and isinstance(each.get("hit_half_period"), (int, float))}
            found.append((str(group.get("name")), int(group["n_echo"]), rates))
    return found


def _energy(report: dict[str, Any]) -> Iterator[Plot]:
    rows = [row for row in report["rows"] if row["mj_an_ascan"] is not None and row["mj_an_ascan"] >= 0]
    yield from _bar_plot("Energy an A-scan", "power while streaming over that at rest, by meter",
                         [(row["meter"], row["mj_an_ascan"], f"{row['mj_an_ascan']:.3g} mJ") for row in rows],
                         "mJ")


def _link(report: dict[str, Any]) -> Iterator[Plot]:
    rows = report["decoders"]
    yield from _bar_plot("A-scans a second, decoded", "medians of the passes, on a logarithmic scale",
                         [(row["name"], row["median_per_s"], f"{row['median_per_s']:,.0f}")
                          for row in rows if row["median_per_s"] > 0], "A-scans/s", log=True)


def _training(report: dict[str, Any]) -> Iterator[Plot]:
    for table, rows in report["rows"].items():
        yield from _bar_plot(f"A-scans a second: {table}", "medians of the rounds, and the multiple of"
                             " what each is held against",
                             [(row["name"], row["median_per_s"],
                               f"{row['median_per_s']:,.0f} · {row['ratio']:.2f} ×") for row in rows],
                             "A-scans/s")


def _soak(report: dict[str, Any]) -> Iterator[Plot]:
    rss = report["values_rss_mb"]
    if rss:
        step = report["sent"] / len(rss)
        yield Plot("Resident memory over the run", "RSS of the run, which is what must not grow",
                   curves({"RSS": ([step * place for place in range(len(rss))], rss)}, "A-scans", "MB"))


def _variants(report: dict[str, Any]) -> Iterator[Plot]:
    rows = sorted(report["rows"], key=lambda row: -float(row["p50_us"]))
    yield from _bar_plot("A decision, by variant", "bars p50, strokes p99; in turns in one process",
                         [(row["name"], row["p50_us"], f"{row['p50_us']:,.0f} µs · {row['ratio_p50']:.2f} ×")
                          for row in rows], "µs", marks=[row["p99_us"] for row in rows])
    hits = [(row["name"], 100 * row["hit_half_period"], f"{row['hit_half_period']:.1%}") for row in rows
            if row["hit_half_period"] is not None]
    yield from _bar_plot("Within half a period", "share of the echo gates of the recorded files, or of the"
                         " synthetic ones without any", hits, "% of echo gates")


def _sinks(report: dict[str, Any]) -> Iterator[Plot]:
    added = [(name, max(cores, 0.0), f"{cores:+.3f} cores") for name, cores in report["added_cores"].items()
             if cores is not None]
    yield from _bar_plot("What each sink adds", "CPU time of a run with it, less that of one without", added,
                         "cores")


PLOTS: dict[str, Callable[[dict[str, Any]], Iterator[Plot]]] = {
    "latency": _latency, "openloop": _openloop, "throughput": _throughput, "memory": _memory,
    "startup": _startup, "accuracy": _accuracy, "energy": _energy, "link": _link, "training": _training,
    "soak": _soak, "variants": _variants, "sinks": _sinks,
}
"""By suite; one without a line here has a page of tables alone."""
