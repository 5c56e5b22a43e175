"""Fixtures of the API's tests."""

from tests.deploy.conftest import wafer

__all__ = ["wafer"]
