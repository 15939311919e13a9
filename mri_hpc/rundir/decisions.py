"""Words of the ledger for the end of an attempt: its cause, and the action taken."""

from enum import StrEnum


class Cause(StrEnum):
    """Causes for which the ranks of an attempt have gone."""

    FINISHED = "finished"
    SUPERSEDED = "superseded"  # a newer attempt has the run
    CANCELLED = "cancelled"
    CAUGHT_UP = "caught_up"  # it follows its store, which holds nothing new to learn
    USER_ERROR = "user_error"
    PREEMPTED = "preempted"
    TIME_LIMIT = "time_limit"
    NODE_FAILURE = "node_failure"
    REQUEUED = "requeued"
    STOPPED = "stopped"  # by a signal of unknown origin
    CRASH = "crash"
    VANISHED = "vanished"  # killed together with the process that would have written down why


class Action(StrEnum):
    """Actions that can follow."""

    FINISHED = "finished"
    AGAIN = "again"
    STAY_AWAY = "stay_away"
    GIVE_UP = "give_up"
