"""Errors that a user can cause. Each says what happened, with which value, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable


class UsedgeError(Exception):
    """Base of every error that the commands print as one line.

    ``what`` names the fault and the value that caused it, ``next_step`` what the user can do about it.
    ``exit_code`` is the process's exit status: 1 a gate failed, 2 bad usage or input, 3 device or link.
    """

    exit_code = 2

    def __init__(self, what: str, next_step: str = "") -> None:
        self.what = what
        self.next_step = next_step
        super().__init__(f"{what} {next_step}".strip())


class InputError(UsedgeError):
    """A value, file or option that cannot be used."""


class GateFailedError(UsedgeError):
    """A measured figure lies outside its limit (parity, budget, accuracy)."""

    exit_code = 1


class LinkError(UsedgeError):
    """A port or a device on it cannot be reached or understood."""

    exit_code = 3


class MissingExtraError(InputError):
    """A command needs packages that the device install leaves out."""

    def __init__(self, package: str, extra: str, next_step: str = "") -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"this needs the package '{package}', which is not installed.",
                         next_step or f"Run: pip install 'usedge[{extra}]'")


def known_name(name: str, known: Iterable[str], what: str, where: str = "") -> None:
    """Raise InputError, naming the nearest known name, unless ``name`` is one of ``known``.

    ``what`` says what kind of name it is, ``where`` stands before both names, such as a section.
    """
    names = list(known)
    if name not in names:
        import difflib  # on the way to an error alone

        nearest = difflib.get_close_matches(name, names, 1, 0.0)[0]
        raise InputError(f"{what} {where}{name} is unknown.", f"The nearest known one is {where}{nearest}.")
