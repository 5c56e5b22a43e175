"""The address of a model on a Triton Inference Server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from microseg.core.errors import InputError

_FORM = "triton://HOST:8000/MODEL, or tritons://HOST:443/MODEL for TLS"
_DEFAULT_PORTS = {"triton": 8000, "tritons": 443}


@dataclass(frozen=True)
class Address:
    """Where a model is served.

    Attributes:
        host: name or IP address, with the port; an IPv6 address in brackets.
        model: name of the model.
        is_encrypted: whether the connection uses TLS.
    """

    host: str
    model: str
    is_encrypted: bool

    def __str__(self) -> str:
        return f"{'tritons' if self.is_encrypted else 'triton'}://{self.host}/{self.model}"


def parsed_address(url: str) -> Address:
    """The parts of an address.

    Args:
        url: `triton://host:8000/model`, or `tritons://` for TLS. The default port is Triton's HTTP port, 8000; 443 with TLS.

    Raises:
        InputError: another form, or a password in it: messages and logs would show that.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"The address of the server is not valid ({error}). Remedy: {_FORM}.") from error
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(
            f"The address of the server holds a user, a password or a query, which messages would show. Remedy: {_FORM}; a "
            "token goes into headers={'Authorization': ...}."
        )
    model = parts.path.strip("/")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not re.fullmatch(r"[A-Za-z0-9_.-]+", model):
        raise InputError(f"{url}: is no address of a model. Remedy: {_FORM}.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(f"{host}:{_DEFAULT_PORTS[parts.scheme] if port is None else port}", model, parts.scheme == "tritons")
