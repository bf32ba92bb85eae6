"""Reports as Markdown tables, for the terminal and the README alike: one function a suite."""

from __future__ import annotations

from typing import Any

from usedge_bench.reports.figure import told_interval


def link_table(report: dict[str, Any]) -> str:
    """Every decoder's rate and bytes."""
    settings = report["settings"]
    title = f"decoder, {settings['samples']} samples an A-scan"
    lines = [f"| {title} | A-scans/s | slowest – fastest pass | bytes |", "|---|---|---|---|"]
    lines += [f"| {row['name']} | {row['median_per_s']:,} | {row['min_per_s']:,} – {row['max_per_s']:,} |"
              f" {row['bytes_per_ascan']:,.0f} |" for row in report["decoders"]]
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _host(report)]
    return "\n".join(lines)


def training_table(report: dict[str, Any]) -> str:
    """Each table's median and spread, with the multiple of what it is held against."""
    rows, lines = report["rows"], []
    titles = {
        "pretraining": (f"pretraining, batch {rows['pretraining'][0]['batch']}", "× plain fp32"),
        "data": ("making or reading A-scans, one process", "× usedge pretraining"),
        "fine-tuning": (f"fine-tuning for ToF, batch {rows['fine-tuning'][0]['batch']}", "× fp32"),
    }
    for table, (title, against) in titles.items():
        lines += [f"| {title} | A-scans/s | p10 – p90 of rounds | {against} |", "|---|---|---|---|"]
        lines += [f"| {row['name']} | {row['median_per_s']:,.0f} | {row['p10_per_s']:,.0f} –"
                  f" {row['p90_per_s']:,.0f} | {row['ratio']:.2f} |" for row in rows[table]]
        lines.append("")
    host = report["host"]
    lines += ["| figure | value |", "|---|---|"]
    figures = [("floor of usedge's pretraining", f"{report['settings']['floor_pretraining']:,.0f} A-scans/s"),
               ("torch", f"{host['torch']}, {host['threads']} threads"), *_host(report)]
    lines += [f"| {name} | {value} |" for name, value in figures]
    return "\n".join(lines)


def soak_table(report: dict[str, Any]) -> str:
    """What became of every A-scan, and what grew meanwhile."""
    title = f"soak, {report['seconds'] / 60:.0f} min at {report['ascans_per_s']:g} A-scans/s"
    lines = [f"| {title} | |", "|---|---|"]
    keys = ("sent", "received", "dropped", "corrupted", "unaccounted", "reconnects", "duplicated",
            "queue_dropped", "rss_growth_mb", "threads_left", "files_left", "p99_first_us", "p99_last_us")
    lines += [f"| {key} | {report[key]} |" for key in keys]
    lines.append(f"| passed | {'no: ' + '; '.join(report['failed']) if report['failed'] else 'yes'} |")
    return "\n".join(lines)


def latency_table(report: dict[str, Any]) -> str:
    """Stages, peers and the single figures of a latency report as Markdown."""
    columns = ("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us")
    prf_hz = report["settings"]["prf_hz"]
    lines = [f"| stage, µs (at {prf_hz:g} Hz) | p50 | p90 | p99 | p99.9 | max |", "|---|---|---|---|---|---|"]
    lines += [f"| {name} | " + " | ".join(f"{figures[key]:.0f}" for key in columns) + " |"
              for name, figures in report["stages"].items()]
    idle_hz = report["settings"]["idle_prf_hz"]
    whole = report["stages_idle"]["wire_to_reading"]
    cells = " | ".join(f"{whole[key]:.0f}" for key in columns)
    lines.append(f"| wire_to_reading at {idle_hz:g} Hz | {cells} |")
    lines += ["", "| runtime, one thread | p50 µs | p99 µs |", "|---|---|---|"]
    lines += [f"| {peer['name']} | {peer['p50_us']:.0f} | {peer['p99_us']:.0f} |" for peer in report["peers"]]
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _figures(report)]
    return "\n".join(lines)


def _figures(report: dict[str, Any]) -> list[tuple[str, str]]:
    throughput = report["throughput"]
    figures = [(f"p50 against {name}", f"{ratio:.2f} ×") for name, ratio in report["ratio_p50"].items()]
    return [
        *figures,
        ("outside the network (wire, preprocessing, bookkeeping)",
         f"{report['overhead_share']:.0%} of the whole"),
        *_rounds(report),
        *_metering(report),
        ("throughput, free-running",
         f"{throughput['ascans_per_s']:.0f} A-scans/s, {throughput['dropped']} dropped"),
        ("peak RSS of `usedge run`", f"{report['peak_rss_mb']:.0f} MB"),
        ("process start to first reading", f"{report['first_reading_s']:.2f} s"),
        *_host(report),
    ]


def _rounds(report: dict[str, Any]) -> list[tuple[str, str]]:
    """How far another run may differ, and the machine's pace; nothing in reports of one stretch."""
    whole = "wire_to_reading"
    medians = [each[f"{whole}_us"] for each in report.get("rounds", []) if f"{whole}_us" in each]
    ends = told_interval(report["stages"][whole].get("ci95_us", {}).get("p50"))
    if not medians or ends is None:
        return []
    pace = report.get("pace", {}).get("p50_us")
    told = [("wire to reading, p50 of another run", f"{ends[0]:.0f} – {ends[1]:.0f} µs, 19 of 20 times"),
            (f"the same in each of {len(medians)} rounds", f"{min(medians):.0f} – {max(medians):.0f} µs")]
    return [*told, *([("the machine's pace: a fixed piece of work", f"{pace:.0f} µs")] if pace else [])]


def _metering(report: dict[str, Any]) -> list[tuple[str, str]]:
    metering_ns = report.get("meter_overhead_ns", {}).values()
    return [("metering, a stage", f"{max(metering_ns) * 1e-3:.2f} µs at most")] if metering_ns else []


def _host(report: dict[str, Any]) -> list[tuple[str, str]]:
    host = report["host"]
    return [
        ("host", f"{host['cpu']}, {host['cores']} cores, Python {host['python']}, numpy {host['numpy']}"),
        ("stable", "yes" if report["stable"] else "no: " + "; ".join(report["unstable_because"])),
    ]


def openloop_table(report: dict[str, Any]) -> str:
    """Latency from when an A-scan was due, and deadline misses, for every reader at every PRF."""
    lines = ["| PRF | reader | p50, µs | p99, µs | max, µs | deadline misses | never read |",
             "|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        figures = [_us(row["latency"][key]) for key in ("p50_us", "p99_us", "max_us")]
        misses = f"{row['deadline_misses']} of {row['due']} ({row['miss_share']:.1%})"
        lines.append(f"| {row['prf_hz']:g} Hz | {row['contender']} | {' | '.join(figures)} | {misses} |"
                     f" {row['lost']} |")
    return "\n".join([*lines, "", *_readers(report), *_host_table(report)])


def _us(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


def _readers(report: dict[str, Any]) -> list[str]:
    """What the readers are, and which could not run."""
    lines = ["| reader | what it is |", "|---|---|"]
    lines += [f"| {each['name']} | {each['what']}; {each['variant']} |" for each in report["contenders"]]
    lines += [f"| {name} | not run: {why} |" for name, why in report["missing"].items()]
    return [*lines, ""]


def _host_table(report: dict[str, Any]) -> list[str]:
    return ["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in _host(report))]


def throughput_table(report: dict[str, Any]) -> str:
    """The highest PRF that every reader kept up with."""
    lines = ["| reader, on one core | A-scans/s without a loss | first loss at |", "|---|---|---|"]
    lines += [f"| {row['contender']} | {_rate(row['sustained_hz'])} | {_first_loss(row)} |"
              for row in report["rows"]]
    return "\n".join([*lines, "", *_readers(report), *_host_table(report)])


def _rate(prf_hz: float | None) -> str:
    return "none" if prf_hz is None else f"{prf_hz:,.0f}"


def _first_loss(row: dict[str, Any]) -> str:
    if row["first_loss_hz"] is None:
        return "none"
    limit = " (the virtual transducer was late)" if row["limited_by"] == "transducer" else ""
    return f"{row['first_loss_hz']:,.0f} Hz{limit}"


def memory_table(report: dict[str, Any]) -> str:
    """Resident memory, allocations and the installation."""
    lines = ["| `usedge run` with | RSS settled, MB | at the end | growth | peak | allocated an A-scan, kB |"
             " kept of an A-scan, B |", "|---|---|---|---|---|---|---|"]
    for name, curve in report["curves"].items():
        told = report["allocations"][name]
        cells = [f"{curve['settled_mb']:.1f}", f"{curve['end_mb']:.1f}", f"{curve['growth_mb']:+.2f}",
                 f"{curve['peak_mb']:.1f}", f"{told['transient_kb']['p50_kb']:.0f}",
                 f"{told['kept_bytes']:+.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    install = report["install"]
    biggest = ", ".join(f"{each['name']} {each['mb']:.0f}" for each in install["packages"][:4])
    missing = f"; not installed: {', '.join(install['missing'])}" if install["missing"] else ""
    return "\n".join([*lines, "", *_host_table(report),
                      f"| device install on disk | {install['total_mb']:.0f} MB ({biggest}{missing}) |"])


def startup_table(report: dict[str, Any]) -> str:
    """Process start to the first reading, cold and warm."""
    lines = ["| from process start to the first reading | start | median, s | least – most |",
             "|---|---|---|---|"]
    lines += [f"| {row['contender']} | {row['start']} | {row['median_s']:.2f} | {row['min_s']:.2f} –"
              f" {row['max_s']:.2f} |" for row in report["rows"]]
    return "\n".join([*lines, "", *_host_table(report), f"| cold | {_cold(report['cache'])} |"])


def _cold(cache: dict[str, Any]) -> str:
    if not cache:
        return "not measured"
    told = f"the files read ({cache['mb']:.0f} MB) dropped from the page cache by {cache['how']}"
    kept = f"; {cache['kept_mb']:.0f} MB stayed, which running programs use" if cache["kept_mb"] else ""
    return told + kept


def accuracy_table(report: dict[str, Any]) -> str:
    """Hits, misses and false alarms of every method, over all gates and by source."""
    lines = ["| source | method | hit ½ period | 95 % interval | hit 1 period | missed | false alarms |",
             "|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        interval = row["ci95_hit_half_period"]
        shown = "–" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"
        figures = [_share(row[key]) for key in ("hit_one_period", "miss_rate", "false_alarm_rate")]
        lines.append(f"| {row['source']} | {row['method']} | {_share(row['hit_half_period'])} | {shown} |"
                     f" {' | '.join(figures)} |")
    return "\n".join([*lines, "", *_host_table(report)])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def energy_table(report: dict[str, Any]) -> str:
    """Power at rest and while streaming, and what an A-scan takes."""
    if not report["measurable"]:
        return "\n".join([f"Energy is not measurable here: {report['why_not']}", "", *_host_table(report)])
    lines = ["| meter | at rest, W | streaming, W | an A-scan, mJ | 95 % interval |", "|---|---|---|---|---|"]
    for row in report["rows"]:
        interval = row["ci95_mj_an_ascan"]
        shown = "–" if interval is None else f"{interval[0]:.2f} – {interval[1]:.2f}"
        lines.append(f"| {row['meter']} | {row['rest_w']:.2f} | {row['streaming_w']:.2f} |"
                     f" {row['mj_an_ascan']:.2f} | {shown} |")
    return "\n".join([*lines, "", *_host_table(report)])


def variants_table(report: dict[str, Any]) -> str:
    """Every variant and peer: the decision's time, hits, memory, start."""
    lines = ["| variant | p50 µs | p99 µs | of onnxruntime fp32 | hits ½ T, recorded / field | all patches"
             " looked at | RSS MB | start s |", "|---|---|---|---|---|---|---|---|"]
    for row in sorted(report["rows"], key=lambda each: -each["p50_us"]):
        name = f"**{row['name']}** (default)" if row["default"] else row["name"]
        lines.append(f"| {name} | {row['p50_us']:.0f} | {row['p99_us']:.0f} | {row['ratio_p50']:.2f} |"
                     f" {_hit(row['recorded'])} / {_hit(row['field'])} | {_asked(row)} |"
                     f" {_shown(row['rss_mb'], '.0f')} | {_shown(row['cold_start_s'], '.2f')} |")
    lines += [f"| {name} | – | – | – | {why} | | | |" for name, why in report["missing"].items()]
    return "\n".join([*lines, "", *_host_table(report)])


def _hit(scores: dict[str, Any] | None) -> str:
    return "–" if scores is None else _shown(scores["hit_half_period"], ".3f")


def _asked(row: dict[str, Any]) -> str:
    if not row["sure"]:
        return "always" if row["sure"] is None else "never"
    return _shown((row["recorded"] or row["field"])["looked_at_all"], ".0%")


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
