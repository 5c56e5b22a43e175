from __future__ import annotations

import pytest

from microseg.core.errors import InputError
from microseg.runtime.triton.address import parsed_address


@pytest.mark.parametrize(
    ("url", "shown", "is_encrypted"),
    [
        ("triton://server/steel", "triton://server:8000/steel", False),
        ("triton://10.0.0.7:9000/steel-2.1/", "triton://10.0.0.7:9000/steel-2.1", False),
        ("tritons://[::1]/steel", "tritons://[::1]:443/steel", True),
    ],
)
def test_an_address_names_server_and_model(url: str, shown: str, is_encrypted: bool) -> None:
    address = parsed_address(url)
    assert (str(address), address.is_encrypted) == (shown, is_encrypted)


@pytest.mark.parametrize(
    "url",
    ["http://server/steel", "triton:///steel", "triton://server", "triton://server/a/b", "triton://server:x/steel"],
)
def test_other_forms_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="triton://HOST:8000/MODEL"):
        parsed_address(url)


@pytest.mark.parametrize("url", ["triton://me:secret@server/steel", "triton://server/steel?token=secret"])
def test_a_password_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed_address(url)
    assert "secret" not in str(refused.value) and "headers=" in str(refused.value)
