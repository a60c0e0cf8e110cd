"""The environment variables that the package reads."""

STORE = "IMPLREG_STORE"  # folder or fsspec URL of finished runs
SCHEDULER = "IMPLREG_SCHEDULER"  # address of a Dask scheduler for all grids
