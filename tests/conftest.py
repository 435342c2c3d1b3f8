"""Fixtures for all tests; each file that is named here brings a part's own."""

pytest_plugins = ["tests.fixtures_speech", "tests.fixtures_storage"]
