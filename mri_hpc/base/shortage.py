"""Errors that come of a shell or machine that gives too little, in words. Any library may raise them."""

import re
import resource

OF_MEMORY = ("failed to map segment", "Cannot allocate memory", "can't start new thread")
NOT_MAPPED = re.compile(r"(\S+\.so[\w.]*): failed to map segment")
"""The complaint of the system's loader about a library, without memory for it or where nothing may run."""
WITHOUT_TEMPORARY = "No usable temporary directory"


def shortage_in(error: BaseException | None) -> str:
    """Say what is lacking, and what to type, where an error comes of it; empty for any other."""
    while error is not None:
        if found := _in_words(error):
            return found
        error = error.__cause__ or error.__context__
    return ""


def _in_words(error: BaseException) -> str:
    text, most = str(error), resource.getrlimit(resource.RLIMIT_AS)[0]
    is_of_memory = isinstance(error, MemoryError) or any(words in text for words in OF_MEMORY)
    if is_of_memory and most != resource.RLIM_INFINITY:
        return (
            f"this shell may use {most / 1e9:.2f} GB of address space (ulimit -v), which is too little; "
            f"ulimit -v unlimited, or work in a job: srun --pty bash"
        )
    if unmapped := NOT_MAPPED.search(text):
        return (
            f"{unmapped[1]} cannot be loaded from where it lies, as of a file system that is mounted noexec; "
            f"install on another one"
        )
    if WITHOUT_TEMPORARY in text:
        return "no folder for temporary files can be written; export TMPDIR=/another/folder"
    return ""
