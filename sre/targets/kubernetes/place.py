"""What `sre up --target kubernetes` leaves below SRE_HOME/kubernetes: which cluster it is, and what users need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sre.config import PROJECT
from sre.errors import TargetUnavailable

OVERLAYS = PROJECT / "k8s" / "overlays"
FOLDER = "kubernetes"


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one system on one cluster.

    Attributes:
        home: SRE_HOME.
        kubeconfig: file that names the cluster, or several as in KUBECONFIG.
        context: of that file.
        overlay: that was applied.
    """

    home: Path
    kubeconfig: str
    context: str
    overlay: str

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self.home / FOLDER

    @property
    def ca_file(self) -> Path:
        """Certificate authority of the system."""
        return self.folder / "ca.pem"

    @property
    def api_key_file(self) -> Path:
        """The key that drills use as users."""
        return self.folder / "api-key"

    @property
    def bodies(self) -> Path:
        """Images that users send."""
        return self.folder / "bodies"

    @property
    def passfile(self) -> Path:
        """Passwords of the roles that drills have in the database."""
        return self.folder / "passfile"

    @property
    def slots(self) -> Path:
        """Which pod is which replica."""
        return self.folder / "slots.json"

    def write(self) -> None:
        """Make the folder, closed to others, with what `read` needs."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = {"kubeconfig": self.kubeconfig, "context": self.context, "overlay": self.overlay}
        _file(self.home).write_text(json.dumps(content), encoding="utf-8")


def read(home: Path) -> Place | None:
    """The place below a home, None when no system was begun from there.

    Raises:
        TargetUnavailable: its file is damaged.
    """
    file = _file(home)
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Place(home, content["kubeconfig"], content["context"], content["overlay"])
    except (ValueError, KeyError, TypeError) as error:
        raise TargetUnavailable(f"{file} is damaged ({error!r}); delete it and run `sre up --target kubernetes`") from error


def _file(home: Path) -> Path:
    return home / FOLDER / "place.json"
