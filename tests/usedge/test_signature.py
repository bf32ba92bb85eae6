"""Signed bundles: whose signature holds, in the words that a user types, and with keys that openssl made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.usedge.test_bundle import parts
from usedge.bundle import Bundle, write_bundle
from usedge.cli import main
from usedge.resources import shipped_bundle

pytest.importorskip("cryptography", reason="signatures need the extra 'sign'")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "b.usedge", parts())


@pytest.fixture
def usedge(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process; gives its exit code, stdout and stderr."""
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["usedge", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capfd.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def refused(usedge: Any) -> Any:
    """Runs a command that ends with exit code 2, and gives its one line."""
    def run(*words: object) -> str:
        code, out, said = usedge(*words)
        assert (code, out, said.count("\n")) == (2, "", 1)
        return str(said)

    return run


def openssl(*words: object) -> bytes:
    """What openssl answers; skips where there is none that knows Ed25519."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True).stdout


def keys(usedge: Any, folder: Path, name: str = "k.pem") -> tuple[Path, Path, str]:
    """A fresh private key, its public one, and the latter's digits."""
    code, out, _ = usedge("sign", "--new-key", folder / name)
    told = json.loads(out)
    assert (code, told["public"]) == (0, f"{folder / name}.pub")
    return Path(told["private"]), Path(told["public"]), told["key"]


def test_a_signed_bundle_is_run_and_stays_as_it_is(usedge: Any, tmp_path: Path) -> None:
    path = tmp_path / "field.usedge"
    shutil.copy(shipped_bundle(), path)
    private, public, digits = keys(usedge, tmp_path)
    code, out, _ = usedge("sign", path, "--key", private)
    assert code == 0
    assert json.loads(out)["signature"] == f"{path}.sig"
    assert path.read_bytes() == shipped_bundle().read_bytes()
    assert json.loads(usedge("sign", path, "--check", public)[1])["key"] == digits
    words = ("run", "--port", "sim://", "--bundle", path, "--count", 2, "--require-signature", public)
    code, out, _ = usedge(*words)
    assert (code, out.count("\n")) == (0, 2)


def test_keys_are_their_owners_alone_and_never_overwritten(usedge: Any, refused: Any, tmp_path: Path) -> None:
    private, public, _ = keys(usedge, tmp_path)
    before = private.read_bytes(), public.read_bytes()
    assert private.stat().st_mode & 0o777 == 0o600
    assert before[0].startswith(b"-----BEGIN PRIVATE KEY-----")
    assert before[1].startswith(b"-----BEGIN PUBLIC KEY-----")
    assert f"{private} exists" in refused("sign", "--new-key", private)
    private.unlink()
    assert f"{public} exists" in refused("sign", "--new-key", private)
    assert public.read_bytes() == before[1]
    assert "cannot be written" in refused("sign", "--new-key", tmp_path / "no" / "k.pem")


REQUIRING = {
    "run": ("run", "--port", "sim://", "--count", "1", "--bundle"),
    "sign": ("sign",),
}


@pytest.mark.parametrize("command", REQUIRING)
def test_what_does_not_hold_is_named(usedge: Any, refused: Any, bundle: Bundle, tmp_path: Path, command: str
                                     ) -> None:
    private, public, digits = keys(usedge, tmp_path)
    other = keys(usedge, tmp_path, "other.pem")
    option = "--check" if command == "sign" else "--require-signature"

    def said(key: Path) -> str:
        return str(refused(*REQUIRING[command], bundle.path, option, key))

    assert f"{bundle.path} is not signed: there is no {bundle.path}.sig. Copy it" in said(public)
    usedge("sign", bundle.path, "--key", private)
    told = f"is not signed by {other[1]} ({other[2][:16]}), but by {digits[:16]}."
    assert told in said(other[1])
    write_bundle(bundle.path, parts(name="another"))
    assert "is not the bundle that was signed" in said(public)
    assert "is a private key, which belongs on no device" in said(private)
    assert "is no public key in PEM form" in said(bundle.path.with_name("b.usedge.sig"))
    assert f"the public key {tmp_path / 'none'} cannot be read" in said(tmp_path / "none")


def test_a_changed_bundle_is_refused_by_its_seal(usedge: Any, refused: Any, bundle: Bundle, tmp_path: Path
                                                 ) -> None:
    private, public, _ = keys(usedge, tmp_path)
    usedge("sign", bundle.path, "--key", private)
    changed = bytearray(bundle.path.read_bytes())
    changed[len(changed) // 2] ^= 1
    bundle.path.write_bytes(changed)
    assert "its SHA-256 differs from its seal" in refused("sign", bundle.path, "--check", public)


def test_forged_signatures_are_refused(usedge: Any, refused: Any, bundle: Bundle, tmp_path: Path) -> None:
    """One that names the right key and bundle, whatever its digits are."""
    private, public, _ = keys(usedge, tmp_path)
    usedge("sign", bundle.path, "--key", private)
    path = tmp_path / "b.usedge.sig"
    line = path.read_text().rstrip("\n")
    for digit in (-1, -64, -128):
        forged = line[:digit] + ("0" if line[digit] != "0" else "1") + line[len(line) + digit + 1 :]
        assert len(forged) == len(line)
        path.write_text(forged + "\n")
        assert "b.usedge.sig is false" in refused("sign", bundle.path, "--check", public)
    for odd in ("hello\n", line[:-1], line.replace("signature/1", "signature/2"), "\0\xff"):
        path.write_text(odd)
        assert "line 1 is no signature" in refused("sign", bundle.path, "--check", public)
    path.write_text((line + "\n") * 300)
    assert "more than 65536 bytes" in refused("sign", bundle.path, "--check", public)
    path.write_text("")
    assert "but by none" in refused("sign", bundle.path, "--check", public)


def test_several_keys_may_sign_the_same_bundle(usedge: Any, refused: Any, bundle: Bundle, tmp_path: Path
                                               ) -> None:
    old, new = keys(usedge, tmp_path, "old.pem"), keys(usedge, tmp_path, "new.pem")
    for each in (old, new, new):
        assert usedge("sign", bundle.path, "--key", each[0])[0] == 0
    assert (tmp_path / "b.usedge.sig").read_text().count("\n") == 2
    for each in (old, new):
        assert usedge("sign", bundle.path, "--check", each[1])[0] == 0
    write_bundle(bundle.path, parts(name="another"))
    usedge("sign", bundle.path, "--key", new[0])
    assert usedge("sign", bundle.path, "--check", new[1])[0] == 0
    assert "is not signed by" in refused("sign", bundle.path, "--check", old[1])


def test_keys_and_signatures_are_those_of_openssl(usedge: Any, bundle: Bundle, tmp_path: Path) -> None:
    private, public, seal = tmp_path / "k.pem", tmp_path / "k.pub", tmp_path / "seal"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    assert usedge("sign", bundle.path, "--key", private)[0] == 0
    assert usedge("sign", bundle.path, "--check", public)[0] == 0
    signed = (tmp_path / "b.usedge.sig").read_text().split("ed25519=")[1]
    (tmp_path / "raw").write_bytes(bytes.fromhex(signed.strip()))
    seal.write_bytes(bundle.path.read_bytes()[-87:])
    told = openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", seal, "-sigfile",
                   tmp_path / "raw")
    assert b"Verified Successfully" in told


def test_keys_of_no_use_are_named(refused: Any, usedge: Any, bundle: Bundle, tmp_path: Path) -> None:
    _, public, _ = keys(usedge, tmp_path)
    assert "is a public key; signing takes the private one" in refused("sign", bundle.path, "--key", public)
    assert "is no private key" in refused("sign", bundle.path, "--key", bundle.path)
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x", "-out", tmp_path / "e.pem")
    assert "is encrypted. Decrypt it first" in refused("sign", bundle.path, "--key", tmp_path / "e.pem")
    openssl("genpkey", "-algorithm", "x25519", "-out", tmp_path / "x.pem")
    assert "is no Ed25519 key" in refused("sign", bundle.path, "--key", tmp_path / "x.pem")
    openssl("pkey", "-in", tmp_path / "x.pem", "-pubout", "-out", tmp_path / "x.pub")
    assert "is no Ed25519 key" in refused("sign", bundle.path, "--check", tmp_path / "x.pub")
    assert not (tmp_path / "b.usedge.sig").exists()


def test_what_makes_no_sense_is_refused(refused: Any, bundle: Bundle, tmp_path: Path) -> None:
    for words in ((), (bundle.path,), (bundle.path, "--new-key", tmp_path / "k"), ("--key", tmp_path / "k")):
        assert "give a bundle with --key or --check" in refused("sign", *words)
    said = refused("run", "--port", "sim://", "--runtime", "classical", "--require-signature", tmp_path / "k")
    assert "runs no bundle" in said


def test_without_the_extra_it_is_named(refused: Any, bundle: Bundle, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install 'usedge[sign]'" in refused("sign", bundle.path, "--check", tmp_path / "k.pub")


def test_evaluate_requires_a_signature_as_well(refused: Any, usedge: Any, bundle: Bundle, tmp_path: Path
                                               ) -> None:
    import numpy as np

    from usedge.synth import generate

    synth = generate("field", 4, 5, 640)
    np.savez(tmp_path / "tank.npz", x=synth.x, fs_hz=20e6, t0_s=0.0, tof_s=synth.onset / 20e6)
    public = keys(usedge, tmp_path)[1]
    said = refused("evaluate", tmp_path / "tank.npz", "--bundle", bundle.path, "--require-signature", public)
    assert "is not signed: there is no" in said
