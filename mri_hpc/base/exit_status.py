"""Exit statuses of commands and ranks."""

DONE = 0
BUG = 1
USER_CAN_MEND = 2
LOST_PEER = 69
"""Another rank has gone, and how that one ended says more (EX_UNAVAILABLE). Below the statuses of those that
hung or were killed: of a whole job step Slurm tells the highest."""
AGAIN = 75
"""All is saved and there is more to do: start it again (EX_TEMPFAIL of sysexits.h)."""
INTERRUPTED = 130
