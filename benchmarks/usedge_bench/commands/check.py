"""``usedge bench check``: the guard against a decision that has become slower."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.options import new_app

if TYPE_CHECKING:
    from usedge_bench.reports.guard import Judgement

app = new_app()


def _say(line: str) -> None:
    typer.echo(f"usedge: {line}", err=True)


@app.command(epilog="Example: usedge bench check --baseline before.json")
def check(
    baseline: Annotated[Path | None, typer.Option(
        help="Report to hold against; default: the stored one of this host class.")] = None,
    report: Annotated[Path | None, typer.Option(
        help="A stored report instead of running the latency suite now.")] = None,
    margin: Annotated[float, typer.Option(
        min=0.0, max=10.0, help="How much larger a ratio may be, as a part of the baseline's.")] = 0.15,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to measure; default: the shipped one.")] = None,
) -> None:
    """Run the latency suite and fail where a decision takes more of plain onnxruntime's time than it did.

    Both are timed in the same run, so that a slow hour moves both. Without a stored run of this host class
    nothing is judged, and that is said.
    """
    from usedge.errors import GateFailedError
    from usedge_bench.reports.guard import baseline_for, judged
    from usedge_bench.reports.read import host_class, read_report

    later = read_report(report) if report else None
    host = host_class(later or _this_host())
    found = (baseline, read_report(baseline)) if baseline else baseline_for(host, _stored())
    if found is None:
        _say(f"no latency report of this host class ({host}) is stored: nothing was judged. Add one:")
        _say("usedge bench latency --json own.json, then usedge bench submit own.json")
        return
    later = later or _measured(bundle)
    _same_suite(later, found[1], found[0])
    judgement = judged(later, found[1], margin)
    _tell(judgement, found[0], margin)
    if judgement.worse:
        names = "; ".join(f"{line.name} {line.a:.3g} → {line.b:.3g} ({line.change:+.0%})"
                          for line in judgement.worse)
        again = "" if later.get("stable", True) else " The run was unstable: run it again on a quiet machine."
        raise GateFailedError(f"slower by more than {margin:.0%} than {found[0].name}: {names}.",
                              f"See: usedge bench compare.{again}")


def _this_host() -> dict[str, Any]:
    from usedge.meter import host_facts

    return {"host": host_facts()}


def _stored() -> Path:
    from usedge.errors import InputError
    from usedge.resources import CHECKOUT

    folder = CHECKOUT / "benchmarks" / "results"
    if not folder.is_dir():
        raise InputError("this installation holds no stored reports.", "Give one with --baseline FILE.")
    return folder


def _measured(bundle: Path | None) -> dict[str, Any]:
    from usedge.bundle import read_bundle
    from usedge.errors import MissingExtraError
    from usedge.resources import shipped_bundle, suite
    from usedge_bench.latency import run_latency
    from usedge_bench.reports.read import checked
    from usedge_bench.suite import LatencySuite, load_suite

    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", "onnx")
    numbers = load_suite(suite("latency"))
    assert isinstance(numbers, LatencySuite)
    report = run_latency(read_bundle(bundle or shipped_bundle()), numbers, _say)
    return checked(json.loads(json.dumps(report)), "the report")


def _same_suite(later: dict[str, Any], earlier: dict[str, Any], name: Path) -> None:
    from usedge.errors import InputError

    for each, of in ((later, "the run"), (earlier, str(name))):
        if each["suite"] != "latency" or not each["ratio_p50"]:
            raise InputError(f"{of} holds no ratio to plain onnxruntime.",
                             "Give a report of the latency suite, run with onnxruntime installed.")


def _tell(judgement: Judgement, baseline: Path, margin: float) -> None:
    for note in judgement.notes:
        _say(f"{note}.")
    for line in judgement.unsure:
        _say(f"{line.name} may have changed by {line.low:+.0%} to {line.high:+.0%}: this run cannot tell."
             " Run it again when nothing else runs.")
    typer.echo(json.dumps({
        "baseline": baseline.name, "margin": margin, "passed": not judgement.worse,
        "sure": not judgement.unsure,
        "ratios": [{"name": line.name, "baseline": line.a, "now": line.b, "change": line.change,
                    "low": line.low, "high": line.high} for line in judgement.ratios]}))
