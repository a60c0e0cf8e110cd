"""What the chapters compute from their runs: numbers, words, figures and verdicts.

One module for each chapter. `grids` says what is to be run, `measure` makes of it what everything
else is computed from, `numbers` what stands in the prose.
"""
