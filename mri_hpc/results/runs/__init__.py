"""Worth of a run: evaluation, controls, comparison, learning curve."""
