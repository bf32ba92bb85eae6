"""The latency suite's stored reports side by side: one line a host, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from usedge_bench.peers import REFERENCE
from usedge_bench.reports.read import Report, host_class

HEAD = ("host", "runtime", "PRF, Hz", "wire to reading p50, µs", "p99, µs", f"network / {REFERENCE}",
        "peak RSS, MB", "first reading, s", "stable")


def hosts_table(reports: Sequence[Report]) -> str:
    """A table of the ``reports``, in their order."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(report))} |" for report in reports)])


def _cells(report: Report) -> list[str]:
    whole, ratio = report["stages"]["wire_to_reading"], report["ratio_p50"].get(REFERENCE)
    return [
        host_class(report), report["bundle"].get("variant", "–"), f"{report['settings']['prf_hz']:g}",
        f"{whole['p50_us']:,.0f}", f"{whole['p99_us']:,.0f}", "–" if ratio is None else f"{ratio:.2f} ×",
        f"{report['peak_rss_mb']:.0f}", f"{report['first_reading_s']:.2f}",
        "yes" if report["stable"] else "no",
    ]
