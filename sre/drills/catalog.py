"""The drills by name."""

from __future__ import annotations

from sre.drills.alerting import Alerting
from sre.drills.base import Drill
from sre.drills.canary_faults import (
    CanaryCrash,
    CanaryErrors,
    CanaryGood,
    CanaryPrometheusDown,
    CanarySlow,
    CanaryTrainedDefect,
    CanaryWrongClasses,
)
from sre.drills.database_faults import (
    DatabaseDiskFull,
    DatabaseEtcdLost,
    DatabaseEtcdQuorumLost,
    DatabaseHostLost,
    DatabaseHung,
    DatabaseLag,
    DatabasePartition,
    DatabaseRecovery,
    DatabaseStandbyLost,
    DatabaseSwitchover,
    DatabaseVolumeLost,
)
from sre.drills.network_policy import NetworkPolicy
from sre.drills.node import NodeCut, NodeDrain, NodeKubelet, NodeRecovery
from sre.drills.peak_load import PeakLoad
from sre.drills.pod_recovery import PodDeleted, PodEvicted, PodRecovery, ZoneKilled
from sre.drills.rebuild import ClusterRebuild
from sre.drills.restore import Restore
from sre.drills.rolling_update import RollingUpdate
from sre.drills.scale_out import ScaleOut
from sre.drills.secrets_rotation import SecretsRotation
from sre.drills.training import Training
from sre.drills.velero import VeleroRestore
from sre.errors import UsageError

# First what needs the system whole, last what takes a copy of everything that happened.
DRILLS: dict[str, type[Drill]] = {
    kind.name: kind
    for kind in (
        Training, PeakLoad, PodRecovery, Alerting,
        PodDeleted, PodEvicted, ZoneKilled, ScaleOut, RollingUpdate, NetworkPolicy, SecretsRotation,
        NodeDrain, NodeKubelet, NodeCut, NodeRecovery,
        DatabaseRecovery, DatabaseHung, DatabaseHostLost, DatabaseVolumeLost, DatabaseStandbyLost, DatabasePartition,
        DatabaseEtcdLost, DatabaseEtcdQuorumLost, DatabaseDiskFull, DatabaseLag, DatabaseSwitchover,
        CanaryGood, CanarySlow, CanaryErrors, CanaryWrongClasses, CanaryTrainedDefect, CanaryCrash, CanaryPrometheusDown,
        Restore, VeleroRestore, ClusterRebuild,
    )
}  # fmt: skip

# One of each kind: together they judge every promise, in minutes, as far as a target can. Other faults are drills of their own,
# as is a rotation, which mostly waits for kubelets.
GAME_DAY: tuple[type[Drill], ...] = (
    Training, PeakLoad, PodRecovery, Alerting, ScaleOut, RollingUpdate, NetworkPolicy, NodeRecovery,
    DatabaseRecovery, CanaryWrongClasses, Restore,
)  # fmt: skip


def drill(name: str) -> Drill:
    """A new drill of that name.

    Raises:
        UsageError: there is none; the message lists those that exist.
    """
    try:
        return DRILLS[name]()
    except KeyError:
        raise UsageError(f"drill {name!r} does not exist; there are {', '.join(DRILLS)}") from None
