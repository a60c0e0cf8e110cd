"""Settings of all tests."""

from hypothesis import settings

# How long an example takes says nothing about its result, and machines differ.
settings.register_profile("implreg", deadline=None)
settings.load_profile("implreg")
