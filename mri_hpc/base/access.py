"""Access to what is private: its owner's alone, or also that of one group that was named."""

import contextlib
import errno
import functools
import getpass
import grp
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from mri_hpc.base.atomic import publish_new, publish_new_bytes, replace, replace_bytes
from mri_hpc.base.errors import UserError

GROUPS_FOLDER = stat.S_ISGID | stat.S_IRWXG
"""Mark of a folder that is its group's: the group may write, and what is made in it is the group's."""
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
# As linux/posix_acl_xattr.h has them: a version, then tag, permissions and id of each entry.
ACL_HEADER, ACL_ENTRY = 4, struct.Struct("<HHI")
ACL_USER, ACL_GROUP = 0x02, 0x08


def user_name() -> str:
    """Return the name of the user; the user's number where the system knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def group_named(name: str) -> int:
    """Return the number of a group; UserError where there is none, or the user is not in it."""
    try:
        group = int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UserError(f"there is no group {name!r} here: id -Gn lists those that you are in") from None
    if os.geteuid() and group not in {os.getegid(), *os.getgroups()}:
        raise UserError(f"you are not in the group {name!r}: id lists those that you are in")
    return group


def group_of(folder: Path) -> int | None:
    """Return the group whose folder it is; None where it is its owner's."""
    status = folder.stat()
    return status.st_gid if status.st_mode & GROUPS_FOLDER == GROUPS_FOLDER else None


def is_wider(path: Path, group: int | None) -> bool:
    """Tell whether others than the owner and this one group may use a file or folder, also by its ACL."""
    status = path.stat()
    if status.st_mode & stat.S_IRWXO:
        return True
    # With an ACL these are its mask: without them, nobody whom it names is let in.
    return bool(status.st_mode & stat.S_IRWXG) and (status.st_gid != group or bool(_others(path, group)))


def publish_private(path: Path, data: bytes) -> bool:
    """Publish a file that never changes, for those alone whose folder it is; as publish_new_bytes."""
    return publish_new_bytes(path, data, is_private=True, group=group_of(path.parent))


def replace_private(path: Path, data: bytes) -> None:
    """Publish a file in place of one that may be there, for those alone whose folder it is."""
    replace_bytes(path, data, is_private=True, group=group_of(path.parent))


def publish_shared(path: Path, data: bytes) -> bool:
    """Publish a file that never changes, for the group, too, whose folder it is; as publish_new_bytes."""
    return publish_new(path, functools.partial(_write_shared, data))


def replace_shared(path: Path, data: bytes) -> None:
    """Publish a file in place of one that may be there, which the group can read whose folder it is."""
    replace(path, functools.partial(_write_shared, data))


def _write_shared(data: bytes, temp: Path) -> None:
    with temp.open("xb") as file:
        file.write(data)
    let_group_use(temp)


def make_private(folder: Path) -> None:
    """Make a folder for those alone who may use the one that it lies in; harmless when it is there."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if (group := group_of(folder.parent)) is not None:
            give(folder, group)


def let_group_use(path: Path) -> None:
    """Let the group use what is made in its folder, whatever the umask says."""
    if group_of(path.parent) is None:
        return
    mode = path.stat().st_mode
    wanted = GROUPS_FOLDER if stat.S_ISDIR(mode) else stat.S_IRGRP
    if mode & wanted != wanted:
        path.chmod(stat.S_IMODE(mode) | wanted)


def give(path: Path, group: int, *, is_private: bool = True) -> None:
    """Let one group use a file or folder; where it is private, no other user but its owner.

    UserError where an ACL names others, who would be let in, too.
    """
    if is_private and _others(path, group):
        raise UserError(f"{path} has an ACL that lets others in: setfacl -b {path}, then run it again")
    status = path.stat()
    if status.st_gid != group:
        os.chown(path, -1, group)
    if stat.S_ISDIR(status.st_mode):
        mode = 0o2770 if is_private else stat.S_IMODE(status.st_mode) | GROUPS_FOLDER
    else:
        mode = 0o660 if is_private else stat.S_IMODE(status.st_mode) | stat.S_IRGRP
    # After chown, which takes marks away.
    path.chmod(mode)


def _others(path: Path, group: int | None) -> list[tuple[int, int]]:
    """List tag and id of each user and group that the ACLs of a file or folder name, but for this group."""
    return [entry for entry in _named(path) if entry != (ACL_GROUP, group)]


def _named(path: Path) -> Iterator[tuple[int, int]]:
    for name in ACLS:
        try:
            data = os.getxattr(path, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
            continue
        for tag, permissions, number in ACL_ENTRY.iter_unpack(data[ACL_HEADER:]):
            if tag in (ACL_USER, ACL_GROUP) and permissions:
                yield tag, number
