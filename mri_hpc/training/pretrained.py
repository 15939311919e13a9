"""The weights that torchvision publishes: where they lie, whether they are whole, fetching them."""

import hashlib
import http.client
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import torch
import torchvision

from mri_hpc.base.atomic import replace
from mri_hpc.base.command import is_users_to_fix
from mri_hpc.base.errors import UserError

HASH = torch.hub.HASH_REGEX
"""Finds the beginning of a file's sha256 in its name."""
PATIENCE_S = 30.0
"""Without an answer for so long, a server counts as out of reach."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """The weights of one model, as torchvision publishes them."""

    model: str
    url: str
    path: Path
    """Folder in which torch keeps them on this machine."""
    sha256: str
    """Start of its digest, in hex."""
    num_bytes: int
    """Of the file, to about a kilobyte."""

    @property
    def is_there(self) -> bool:
        """Tell whether the file is there, whatever it holds."""
        return self.path.is_file()

    def is_whole(self) -> bool:
        """Tell whether the file is there and holds what was published; reads all of it."""
        if not self.is_there:
            return False
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(self.sha256)


def known_models() -> list[str]:
    """List the names of torchvision's classifiers; all have published weights."""
    return torchvision.models.list_models(module=torchvision.models)


def published(model: str) -> Published:
    """Find what torchvision publishes for the model of that name."""
    weights = torchvision.models.get_model_weights(model).DEFAULT
    url = weights.url
    name = PurePosixPath(urlparse(url).path).name
    found = HASH.search(name)
    assert found, f"no digest in {url}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    return Published(
        model=model,
        url=url,
        path=path,
        sha256=found.group(1),
        # torchvision counts in units of 2**20.
        num_bytes=round(weights.meta["_file_size"] * 2**20),
    )


def find(model: str, *, is_checked: bool = False) -> Path:
    """Find the file of published weights on this machine; UserError where it is not there. Downloads nothing.

    is_checked: whether its digest is looked at too.
    """
    wanted = published(model)
    if not wanted.is_there:
        fault = f"{wanted.path} is not there"
    elif is_checked and not wanted.is_whole():
        fault = f"{wanted.path} is damaged: its digest is not that in its name"
    else:
        return wanted.path
    raise UserError(
        f"--weights pretrained: {fault}, and jobs download nothing; on a node with internet access "
        f"run: mri-hpc weights fetch {model} ({where_to_share()})"
    )


def fetch(wanted: Published) -> None:
    """Download the file; it appears whole or not at all. Raises UserError where that does not work."""
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        replace(wanted.path, lambda temp: _download(wanted, temp))
    except RuntimeError:
        raise UserError(
            f"{wanted.url} came damaged: its digest is not that in its name; try again, and if that does not "
            f"help, a proxy on the way may answer in its place"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and is_users_to_fix(error):
            raise
        cause = getattr(error, "reason", None) or error
        reason = getattr(cause, "strerror", None) or cause or type(error).__name__
        raise UserError(
            f"{wanted.url} cannot be downloaded ({reason}): run this on a node with internet access "
            f"(https_proxy is heeded), or copy the file to {wanted.path} yourself"
        ) from None


def where_to_share() -> str:
    """Put into words how TORCH_HOME stands."""
    home = os.environ.get("TORCH_HOME")
    if home:
        return f"TORCH_HOME is {home}; it must be the same on all nodes"
    return "TORCH_HOME is not set: where nodes do not share your home, set it to a folder that they share"


def _download(wanted: Published, temp: Path) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        torch.hub.download_url_to_file(wanted.url, str(temp), wanted.sha256, progress=sys.stderr.isatty())
    finally:
        socket.setdefaulttimeout(before)
