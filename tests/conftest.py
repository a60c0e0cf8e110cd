"""Settings of all tests."""

import os

import pytest
from hypothesis import settings

from implreg.settings import SCHEDULER, STORE

# How long an example takes says nothing about its result, and machines differ.
settings.register_profile("implreg", deadline=None)
settings.load_profile("implreg")


@pytest.fixture(autouse=True)
def no_store_of_another_test():
    """Commands set these variables for the rest of their process, which a test is not."""
    for name in (STORE, SCHEDULER):
        os.environ.pop(name, None)
    yield
    for name in (STORE, SCHEDULER):
        os.environ.pop(name, None)
