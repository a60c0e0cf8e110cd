"""One module per chapter: a frozen configuration, and `run` from it to a tidy table."""
