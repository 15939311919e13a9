"""Makes a folder the root of this process, and becomes a command in it.

Run as `unshare --mount root_init.py ROOT FOLDERS COMMAND...`, FOLDERS joined by colons: a mount namespace of
its own, which ends with its last process. A root by pivot_root, not by chroot: who enters a namespace later
gets the namespace's root.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

KERNEL_FOLDERS = ("proc", "sys", "dev")
# Of this machine: whom it knows, and whom it trusts.
FILES = ("etc/hosts", "etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt")


def main(root: Path, folders: list[str], argv: list[str]) -> None:
    here = Path.cwd()
    mount("--bind", root, root)
    for name in KERNEL_FOLDERS:
        mount("--rbind", f"/{name}", root / name)
    for folder in filter(None, ["/tmp", *folders]):
        within = root / folder.lstrip("/")
        within.mkdir(parents=True, exist_ok=True)
        mount("--bind", folder, within)
    for name in FILES:
        if Path("/", name).is_file() and (root / name).is_file():
            mount("--bind", f"/{name}", root / name)
    become_root(root)
    with contextlib.suppress(OSError):
        os.chdir(here)
    os.execvp(argv[0], argv)


def become_root(root: Path) -> None:
    """Make the folder the root of this mount namespace, and let go of the old one."""
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "mnt"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "--lazy", "/mnt"], check=True)


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(":"), sys.argv[3:])
