"""What the ledger says of the end of an attempt: its cause, and what is done about it."""

from enum import StrEnum


class Cause(StrEnum):
    """Why the ranks of an attempt have gone."""

    FINISHED = "finished"
    SUPERSEDED = "superseded"  # a newer attempt has the run
    CANCELLED = "cancelled"
    USER_ERROR = "user_error"
    PREEMPTED = "preempted"
    TIME_LIMIT = "time_limit"
    NODE_FAILURE = "node_failure"
    REQUEUED = "requeued"
    STOPPED = "stopped"  # by a signal from somebody
    CRASH = "crash"
    VANISHED = "vanished"  # killed with whoever would have said why


class Action(StrEnum):
    """What is done about it."""

    FINISHED = "finished"
    AGAIN = "again"
    STAY_AWAY = "stay_away"
    GIVE_UP = "give_up"
