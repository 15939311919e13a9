"""What tests of preprocess ask about its last line and about the store."""

from mri_hpc.storage.store import Store
from mri_hpc.store_actions.info import summary

SMALL = ("--size", 16)


def counts(printed):
    words = printed.splitlines()[-1].replace(",", "").split()
    return int(words[1]), int(words[4]), int(words[6])


def info(store):
    found = Store.open(store)
    found.resolve()
    return summary(found)
