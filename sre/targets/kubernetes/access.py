"""How clients on this machine reach the database of a cluster: a port for each member, and a password file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from sre.targets.kubernetes import secrets
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.database import MEMBERS, NAMESPACE, POSTGRES_PORT
from sre.targets.kubernetes.forward import Forward
from sre.targets.kubernetes.place import Place

# Passwords of whom drills are in the database: those who write, and those who read the prediction log.
SECRET = "/api/v1/namespaces/{}/secrets/{}".format(*secrets.DRILLS)


class Access:
    """Ports that lead to whichever pod has a member's name at the time, until `close`.

    Args:
        api: of the cluster.
        place: gets the password file.
    """

    def __init__(self, api: Api, place: Place) -> None:
        held = secrets.decoded(api.get(SECRET))
        self._ca_file = place.ca_file
        self.passfile = place.passfile
        _write(self.passfile, [(role, held[role]) for role in secrets.DRILLS_ROLES])
        self._forwards = {name: Forward(partial(api.connect, NAMESPACE, name, POSTGRES_PORT)) for name in MEMBERS}

    def dsn(self, user: str, database: str) -> str:
        """Libpq URL of the primary, wherever it is."""
        return f"{self._url(MEMBERS, user, database)}&target_session_attrs=read-write"

    def dsn_of(self, member: str, user: str, database: str) -> str:
        """The same of one member, whatever its role."""
        return self._url((member,), user, database)

    def _url(self, members: Sequence[str], user: str, database: str) -> str:
        hosts = ",".join(f"localhost:{self._forwards[member].port}" for member in members)
        # The name is that of the certificates; the address spares asking who has it.
        addresses = ",".join(["127.0.0.1"] * len(members))
        return f"postgresql://{user}@{hosts}/{database}?hostaddr={addresses}&sslmode=verify-full&sslrootcert={self._ca_file}"

    def close(self) -> None:
        """Take no more connections."""
        for forward in self._forwards.values():
            forward.close()


def _write(passfile: Path, passwords: Iterable[tuple[str, str]]) -> None:
    # libpq separates by colons and escapes by backslashes.
    lines = [f"*:*:*:{role}:{word.replace(chr(92), chr(92) * 2).replace(':', chr(92) + ':')}\n" for role, word in passwords]
    passfile.unlink(missing_ok=True)
    passfile.touch(mode=0o600)
    passfile.write_text("".join(lines), encoding="utf-8")
