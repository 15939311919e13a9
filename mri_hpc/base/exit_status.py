"""Exit statuses of commands and ranks."""

DONE = 0
"""All that was asked for is done."""
BUG = 1
"""A case that was not foreseen: a traceback is on stderr."""
USER_CAN_FIX = 2
"""One line on stderr says what is wrong and what to do."""
LOST_PEER = 69
"""Another rank has gone, and how that one ended says more (EX_UNAVAILABLE). Below the statuses of those that
hung or were killed: of a whole job step Slurm tells the highest."""
AGAIN = 75
"""All is saved and there is more to do: start it again (EX_TEMPFAIL of sysexits.h)."""
INTERRUPTED = 130
"""Ended by Ctrl-C."""
