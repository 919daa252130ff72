"""The drills by name."""

from __future__ import annotations

from sre.drills.alerting import Alerting
from sre.drills.backup_restore import BackupRestore
from sre.drills.base import Drill
from sre.drills.peak_load import PeakLoad
from sre.drills.pod_recovery import PodRecovery
from sre.drills.training import Training
from sre.errors import UsageError

# In the order of a game day: first what needs the system whole, last what takes a copy of everything that happened.
DRILLS: dict[str, type[Drill]] = {
    kind.name: kind for kind in (Training, PeakLoad, PodRecovery, Alerting, BackupRestore)
}  # fmt: skip


def drill(name: str) -> Drill:
    """A new drill of that name.

    Raises:
        UsageError: there is none; the message lists those that exist.
    """
    try:
        return DRILLS[name]()
    except KeyError:
        raise UsageError(f"drill {name!r} does not exist; there are {', '.join(DRILLS)}") from None
