"""``usedge sign``: who vouches for a bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli.options import new_app
from usedge.errors import InputError

app = new_app()


@app.command(epilog="Example: usedge sign field.usedge --key key.pem")
def sign(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle to sign or to check.")] = None,
    key: Annotated[Path | None, typer.Option(help="Sign with this private key (Ed25519, PEM).")] = None,
    check: Annotated[Path | None, typer.Option(
        metavar="PUBKEY", help="Say whether the owner of this public key signed it.")] = None,
    new_key: Annotated[Path | None, typer.Option(
        metavar="KEY", help="Make a private key, and its public one in KEY.pub.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
) -> None:
    """Sign a bundle: BUNDLE.sig is written beside it, and the bundle stays as it is.

    `usedge run --require-signature PUBKEY` then runs no other. Exit code 2 where a signature does not hold.
    """
    asked = sum(each is not None for each in (key, check, new_key))
    if asked != 1 or (bundle is None) != (new_key is not None):
        raise InputError("give a bundle with --key or --check, or --new-key alone.",
                         "Example: usedge sign field.usedge --key key.pem")
    if new_key is not None:
        _say(_made(new_key), as_json, "{private} keeps to you; devices get {public}.")
    elif bundle is not None and key is not None:
        _say(_signed(bundle, key), as_json, "{signature}: signed by {fingerprint}.")
    elif bundle is not None and check is not None:
        _say(_checked(bundle, check), as_json, "{bundle} is signed by {fingerprint}.")


def _say(facts: dict[str, str], as_json: bool, line: str) -> None:
    known = facts | {"fingerprint": facts["key"][:16]}
    typer.echo(json.dumps(facts) if as_json or not sys.stdout.isatty() else line.format(**known))


def _made(path: Path) -> dict[str, str]:
    from usedge.signature import new_key

    return {"key": new_key(path), "private": str(path), "public": f"{path}.pub"}


def _signed(bundle: Path, key: Path) -> dict[str, str]:
    from usedge.bundle import read_bundle
    from usedge.signature import private_key, sign

    sealed = read_bundle(bundle).sealed
    public = sign(sealed, private_key(key))
    return {"bundle": str(bundle), "sha256": sealed.sha256, "key": public,
            "signature": str(sealed.signatures)}


def _checked(bundle: Path, check: Path) -> dict[str, str]:
    from usedge.bundle import read_bundle
    from usedge.signature import require

    sealed = read_bundle(bundle).sealed
    return {"bundle": str(bundle), "sha256": sealed.sha256, "key": require(sealed, check),
            "signature": str(sealed.signatures)}
