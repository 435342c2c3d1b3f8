"""The versions of Asterisk, as in the end-to-end tests."""

from tests.e2e.conftest import asterisk

__all__ = ["asterisk"]
