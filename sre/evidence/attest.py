"""The attestation of a run: an in-toto statement of its result, about every file that it left, in a signed envelope.

Statement v1 (https://in-toto.io/Statement/v1) with the predicate test-result v0.1
(https://in-toto.io/attestation/test-result/v0.1). Its tests are promises, each named `drill/promise`. What is neither kept nor
broken is a warning, so that a reader who knows only these three words cannot take it for passed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sre.errors import EvidenceDamaged, ExitCode
from sre.evidence import sign
from sre.evidence.files import ATTESTATION, checksums, strangers
from sre.evidence.schema import RunRecord
from sre.verdict import Outcome

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"

_RESULT = {Outcome.KEPT: "PASSED", Outcome.BROKEN: "FAILED", Outcome.INCONCLUSIVE: "WARNED", Outcome.ERROR: "WARNED"}
# What a run was configured by, among its files: machine, versions, command line; and each experiment as it ran.
_CONFIGURATION = ("environment.json", "chaos-journal.json")


def statement(record: RunRecord, digests: Mapping[str, str]) -> dict[str, Any]:
    """What is attested.

    Args:
        record: of the run.
        digests: SHA-256 of each of its files, by name.
    """
    files = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]
    tests: dict[str, list[str]] = {"PASSED": [], "WARNED": [], "FAILED": []}
    for drill in record.drills:
        for verdict in drill.verdicts:
            tests[_RESULT[verdict.outcome]].append(f"{drill.name}/{verdict.promise}")
        if all(verdict.outcome is not drill.outcome for verdict in drill.verdicts):
            tests[_RESULT[drill.outcome]].append(f"{drill.name}/steps")
    result = _RESULT[record.outcome]
    if result == "PASSED" and record.exit_code != ExitCode.KEPT:
        result = "WARNED"
    return {
        "_type": STATEMENT,
        "subject": files,
        "predicateType": PREDICATE,
        "predicate": {
            "result": result,
            "configuration": [file for file in files if str(file["name"]).rpartition("/")[2] in _CONFIGURATION],
            "url": f"sre.run:{record.id}",
            "passedTests": tests["PASSED"],
            "warnedTests": tests["WARNED"],
            "failedTests": tests["FAILED"],
        },
    }


def write(folder: Path, record: RunRecord, key: Ed25519PrivateKey) -> None:
    """Attest a run whose every other file is written."""
    payload = json.dumps(statement(record, checksums(folder)), separators=(",", ":")).encode()
    (folder / ATTESTATION).write_bytes(sign.seal(payload, key))


def problems(folder: Path, record: RunRecord, key: Ed25519PublicKey) -> list[str]:
    """Why a run is not the one that the key's owner attested, in sentences; empty when it is.

    Args:
        folder: of the run.
        record: what its `run.json` holds now.
        key: of the signer, known beforehand: never one that came with the evidence.
    """
    path = folder / ATTESTATION
    if not path.is_file():
        return [f"it is not signed: {ATTESTATION} is missing, because the run was cut short or an earlier version made it"]
    try:
        told = json.loads(sign.unseal(path.read_bytes(), key))
        subjects = {item["name"]: item["digest"]["sha256"] for item in told["subject"]}
    except EvidenceDamaged as damaged:
        return [f"{ATTESTATION}: {damaged}"]
    except (ValueError, TypeError, KeyError) as error:
        return [f"{ATTESTATION}: what is signed is no statement ({type(error).__name__})"]
    found = checksums(folder)
    wrong = [f"{name} is neither a file nor a folder of the run's own" for name in strangers(folder)]
    wrong += [f"{name} is missing" for name in subjects if name not in found]
    wrong += [f"{name} was altered" for name, digest in subjects.items() if name in found and found[name] != digest]
    wrong += [f"{name} was added after the run" for name in found if name not in subjects]
    if record.id != folder.name:
        wrong.append(f"it is run {record.id}, though its folder is named {folder.name}")
    if told != statement(record, subjects):
        wrong.append(f"{ATTESTATION}: what is signed is another result than that of the record")
    return wrong
