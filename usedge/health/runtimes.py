"""The runtimes: which are installed, and whether each answers the bundle's golden vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from usedge.bundle import Bundle, read_bundle
from usedge.errors import InputError
from usedge.health.machine import FINE, NOTE, WRONG, Finding
from usedge.resources import shipped_bundle
from usedge.runtime.choice import in_bundle, try_runtime


def runtimes(path: Path | None = None) -> Iterator[Finding]:
    """Every runtime on the bundle at ``path`` (None: the shipped one); wrong where none of them answers."""
    try:
        bundle = read_bundle(path or shipped_bundle())
    except InputError as error:
        yield Finding("runtimes", WRONG, error.what, error.next_step)
        return
    found = [_tried(name, bundle) for name in in_bundle(bundle)]
    yield from found
    if not any(each.state == FINE for each in found):
        yield Finding("runtimes", WRONG, f"no runtime answers the golden vectors of {bundle.name}.",
                      "Until one does: usedge run --runtime classical --method envelope")


def _tried(name: str, bundle: Bundle) -> Finding:
    tried = try_runtime(name, bundle)
    if tried.p50_us is None:
        return Finding("runtimes", NOTE if tried.missing else WRONG, tried.what, tried.next_step)
    return Finding("runtimes", FINE, f"{name} answers the golden vectors of {bundle.name}"
                                     f" ({bundle.default_for(name).name}), {tried.p50_us:.0f} µs each.")
