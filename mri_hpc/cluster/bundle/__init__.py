"""One archive about a run for a help desk, without anything that tells of a patient."""
