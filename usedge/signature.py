"""Ed25519 signatures (RFC 8032) of bundles, in a file beside each; docs/bundle.md tells the format.

What is signed is the seal, the bundle's last bytes, which hold the SHA-256 of all bytes before them: the
bundle itself does not change by being signed, and keeps the SHA-256 that readings and calibrations name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usedge.errors import InputError, MissingExtraError
from usedge.files import whole_file, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAGIC = "usedge-signature/1"
MAX_BYTES = 64 << 10
"""Of a signature file or a key."""
_LINE = re.compile(rf"{MAGIC} bundle=([0-9a-f]{{64}}) key=([0-9a-f]{{64}}) ed25519=([0-9a-f]{{128}})")
_MAKE_ONE = "Make one with: usedge sign --new-key key.pem"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A bundle as far as it is signed: ``path``, and its ``seal`` with the ``sha256`` in it, both checked."""

    path: Path
    seal: str
    sha256: str

    @property
    def signatures(self) -> Path:
        """The file beside it that holds its signatures."""
        return self.path.with_name(self.path.name + ".sig")


def fingerprint(key: str) -> str:
    """The beginning of a public key's 64 hexadecimal digits: enough to tell keys apart by eye."""
    return key[:16]


def new_key(path: Path) -> str:
    """Write a fresh private key (PEM, PKCS #8, no passphrase) to ``path``, for its owner alone, and its
    public key to ``path``.pub; return the latter's 64 hexadecimal digits.

    Raises InputError where either exists or cannot be written.
    """
    _need_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    public = path.with_name(path.name + ".pub")
    for each in (path, public):
        if each.exists():
            raise InputError(f"{each} exists; a key is never overwritten.", "Give another name.")
    key = Ed25519PrivateKey.generate()
    with whole_file(path) as fresh, open(fresh, "xb", opener=_for_the_owner) as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_whole(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return _digits(key.public_key())


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def private_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in a PEM file (PKCS #8, as openssl writes it).

    Raises InputError for another kind, a public key, an encrypted one, and what is no key; MissingExtraError
    without the extra "sign".
    """
    _need_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(path, "private key")
    if b"PUBLIC KEY" in content:
        raise InputError(f"{path} is a public key; signing takes the private one.", _MAKE_ONE)
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise InputError(f"{path} is encrypted.", f"Decrypt it first: openssl pkey -in {path} -out plain.pem"
                         ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path} is no private key in PEM form.", _MAKE_ONE) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} is no Ed25519 key.", _MAKE_ONE)
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 public key in a PEM file; raises as ``private_key`` does, and for a private key."""
    _need_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(path, "public key")
    if b"PRIVATE KEY" in content:
        raise InputError(f"{path} is a private key, which belongs on no device.",
                         f"Give its public one: openssl pkey -in {path} -pubout -out {path}.pub")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path} is no public key in PEM form.", "Give the signer's .pub file.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} is no Ed25519 key.", "Give the signer's .pub file.")
    return key


def sign(sealed: Sealed, key: Ed25519PrivateKey) -> str:
    """Put the signature by ``key`` into the bundle's signature file; return its public key's 64 digits.

    Signatures of the same bundle by other keys stay; those of what lay there before go. Raises InputError
    where that file cannot be written, or is none.
    """
    public = _digits(key.public_key())
    kept = _signatures(sealed) if sealed.signatures.exists() else {}
    kept = {other: each for other, each in kept.items() if each[0] == sealed.sha256}
    kept[public] = (sealed.sha256, key.sign(sealed.seal.encode()).hex())
    lines = [f"{MAGIC} bundle={sha256} key={other} ed25519={signature}\n"
             for other, (sha256, signature) in sorted(kept.items())]
    write_whole(sealed.signatures, "".join(lines).encode())
    return public


def require(sealed: Sealed, key: Path) -> str:
    """The 64 digits of the public key in the file ``key``, after it has been found to have signed the bundle.

    Raises InputError where there is no signature, none by this key, or one of another bundle.
    """
    public = public_key(key)
    digits = _digits(public)
    if not sealed.signatures.is_file():
        raise InputError(f"{sealed.path} is not signed: there is no {sealed.signatures}.",
                         "Copy it from where the bundle was signed.")
    signatures = _signatures(sealed)
    if digits not in signatures:
        signers = ", ".join(fingerprint(each) for each in signatures) or "none"
        raise InputError(f"{sealed.path} is not signed by {key} ({fingerprint(digits)}), but by {signers}.",
                         "Give the signer's public key, or do not use this file.")
    signed, signature = signatures[digits]
    if signed != sealed.sha256:
        raise InputError(f"{sealed.path} is not the bundle that was signed: its SHA-256 begins with"
                         f" {sealed.sha256[:16]}, not {signed[:16]}.",
                         "Do not use this file, or sign it again.")
    _verify(sealed, public, bytes.fromhex(signature))
    return digits


def _verify(sealed: Sealed, public: Ed25519PublicKey, signature: bytes) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, sealed.seal.encode())
    except InvalidSignature:
        raise InputError(f"{sealed.signatures} is false: the key that it names did not sign this bundle.",
                         "Do not use this file.") from None


def _signatures(sealed: Sealed) -> dict[str, tuple[str, str]]:
    """SHA-256 of the bundle and signature, both hexadecimal, by the public key that signed."""
    path, found = sealed.signatures, {}
    for number, line in enumerate(_read(path, "signature").decode("ascii", "replace").splitlines(), 1):
        fields = _LINE.fullmatch(line)
        if fields is None:
            raise InputError(f"{path}: line {number} is no signature of a kind that this usedge knows.",
                             "Copy it again; or remove it, and sign the bundle again.")
        found[fields[2]] = (fields[1], fields[3])
    return found


def _digits(key: Ed25519PublicKey) -> str:
    return key.public_bytes_raw().hex()


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"the {what} {path} cannot be read ({error.strerror or error}).",
                         "Check the path.") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is no {what}: it has more than {MAX_BYTES} bytes.", "Check the path.")
    return content


def _need_library() -> None:
    import importlib.util

    if importlib.util.find_spec("cryptography") is None:
        raise MissingExtraError("cryptography", "sign")
