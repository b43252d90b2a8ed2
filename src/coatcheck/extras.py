"""The error for a missing package of an extra: its name, and what to install."""

from __future__ import annotations


def missing_extra(missing: ModuleNotFoundError, *, module: str, extra: str) -> ModuleNotFoundError:
    """The error for a module of ours whose extra is not installed, or not in full."""
    if missing.name is None or missing.name.partition(".")[0] == "coatcheck":
        return missing  # ours, so that no extra would bring it
    return ModuleNotFoundError(
        f"{module} needs the package {missing.name}; install coatcheck[{extra}]", name=missing.name, path=missing.path
    )
