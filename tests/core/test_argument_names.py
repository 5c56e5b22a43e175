"""Errors of the Python API name arguments, those of the command line options."""

from __future__ import annotations

import pytest

from microseg.core.argument_names import argument_names, in_arguments, naming_arguments
from microseg.core.errors import GateError, InputError


def measure(
    domain: str | None = None, *, pixel_size_um: float | None = None, resume: bool = False, use_profile: bool = True
) -> str:
    """A function of the API."""
    if domain is None:
        return "done"
    raise InputError(f"--as {domain!r}: the engine knows no such domain. Remedy: --no-profile, or --pixel-size-um.")


def test_options_become_arguments() -> None:
    names = argument_names(measure, **{"as": "domain", "profile": "use_profile"})
    told = "--as x. Remedy: --resume to continue, at most --pixel-size-um 2, --no-profile, or pip install --upgrade microseg."
    assert in_arguments(told, names) == (
        "domain x. Remedy: resume=True to continue, at most pixel_size_um 2, use_profile=False, or pip install --upgrade "
        "microseg."
    )


def test_a_function_keeps_its_name_and_its_errors_their_class() -> None:
    named = naming_arguments(**{"as": "domain", "profile": "use_profile"})(measure)
    assert named() == "done" and named.__name__ == "measure" and named.__doc__ == measure.__doc__
    with pytest.raises(InputError) as caught:
        named("lom")
    assert str(caught.value) == (
        "domain 'lom': the engine knows no such domain. Remedy: use_profile=False, or pixel_size_um."
    )

    @naming_arguments()
    def beyond(precision: str) -> None:
        raise GateError("beyond the limit. Remedy: another --precision")

    with pytest.raises(GateError, match="another precision"):
        beyond("int8")
