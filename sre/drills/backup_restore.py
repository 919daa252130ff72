"""`backup-restore`: database and buckets are backed up under load and restored into a fresh place, and everything is compared."""

from __future__ import annotations

import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psycopg

from sre.dr import content, objects, place
from sre.dr.postgres import verify_backup
from sre.drills import loaded
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.errors import CannotRun, StepFailed
from sre.faults.base import Undo
from sre.judges.loss import content_loss, data_loss
from sre.judges.recovery import recovery
from sre.probes import http, sql
from sre.promises import promise
from sre.readings import LoadPlan
from sre.targets.base import Capability
from sre.targets.local.target import LocalTarget

RECORDED_WITHIN_S = 30.0


class BackupRestore(Drill):
    """Nothing is broken: the running system is only read, and what is restored runs beside it."""

    name = "backup-restore"
    summary = "a backup is restored elsewhere and compared row by row, object by object"
    promises: ClassVar = ("restore-content", "restore-time", "data-loss")
    needs: ClassVar = frozenset({Capability.BACKUPS})
    _before: tuple[content.Rows, dict[str, str]]
    _after: content.Rows

    def plan(self, options: Options) -> LoadPlan:
        """A few users, so that the backup is taken while rows are being written."""
        return LoadPlan(options.rate or 50.0, options.seconds or 1800.0, options.seed)

    def inject(self, context: Context) -> str:
        """Send a prediction to be found again, and take the backup."""
        target = _local(context)
        marker, variant = self._marker(context)
        context.note(marker=marker, variant=variant)
        layout = target.layout
        stamp = context.folder.parents[1].name
        backup, fresh = layout.objects / objects.BACKUPS / stamp, layout.home / "restored" / stamp
        arguments = {"place": str(fresh), "backup": str(backup)}
        context.ledger.plan(Undo("remove-restored", arguments, "remove the restored place and the drill's backup"))
        endpoints = target.endpoints
        self._before = content.rows(endpoints.database, endpoints.passfile), objects.checksums(layout.objects)
        place.back_up(layout, backup, context.ran)
        self._after = content.rows(endpoints.database, endpoints.passfile)
        context.note(backup=stamp, disaster_at=context.target.clock.wall())
        size = sum(path.stat().st_size for path in backup.rglob("*") if path.is_file())
        return f"backup of {size / 1e6:,.0f} MB taken under load"

    def prove_injected(self, context: Context) -> str:
        """PostgreSQL's own check of the backup's manifest and WAL."""
        layout = _local(context).layout
        verify_backup(layout, layout.objects / objects.BACKUPS / context.facts["backup"] / place.DATABASE, context.ran)
        return "pg_verifybackup found every file unaltered"

    def recover(self, context: Context) -> str:
        """Restore, compare, and predict again."""
        target, clock = _local(context), context.target.clock
        layout, stamp = target.layout, context.facts["backup"]
        began = clock.now()
        context.say("restoring into a fresh place")
        backup, fresh = layout.objects / objects.BACKUPS / stamp, layout.home / "restored" / stamp
        restored = place.restore(backup, fresh, layout, context.facts["variant"])
        # Before anything is predicted there: that would be recorded too.
        endpoints = restored.endpoints
        newest_at = sql.newest_prediction(endpoints)
        tables = content.compare(self._before[0], self._after, content.rows(endpoints.database, endpoints.passfile))
        there, back = self._before[1], objects.checksums(restored.layout.objects)
        again = self._predict_again(context, restored)
        # The restored system has answered a user: only now the time ends.
        context.note(restored_in=clock.now() - began, prediction=again, newest_at=newest_at)
        context.note(
            tables={name: asdict(difference) for name, difference in tables.items()},
            objects={
                "before": len(there),
                "lost": sorted(set(there) - set(back)),
                "altered": sorted(name for name in there if name in back and back[name] != there[name]),
            },
        )
        rows = sum(difference.restored for difference in tables.values())
        return f"{rows:,} rows in {len(tables)} tables and {len(back):,} objects compared, prediction repeated"

    def judge(self, case: Case) -> Judgement:
        """Content first, then time and loss."""
        facts = case.facts
        if "tables" not in facts:
            return loaded.judgement(case, [], may_stop=True)
        verdicts = [
            content_loss(promise("restore-content"), facts["tables"], facts["objects"], facts["prediction"]),
            recovery(promise("restore-time"), facts["restored_in"], watched=facts["restored_in"], event="a restored prediction"),
            data_loss(promise("data-loss"), facts["disaster_at"], facts["newest_at"]),
        ]
        return loaded.judgement(case, [], verdicts, may_stop=True)

    def _marker(self, context: Context) -> tuple[str, str]:
        """Id of a prediction that is in the log for certain, and the variant of the model that made it."""
        endpoints = _local(context).endpoints
        request_id = f"drill-{uuid.uuid4()}"
        status, body = http.predict(endpoints, http.first_image(endpoints), request_id)
        if status != httpx.codes.OK:
            raise StepFailed(f"the prediction to be found again was answered {status}: {body.get('detail')}")

        def recorded() -> tuple[sql.Prediction | None, str]:
            try:
                return sql.prediction(endpoints, request_id), "not in the prediction log"
            except psycopg.Error as error:
                return None, str(error).strip()

        row = context.until(recorded, within=RECORDED_WITHIN_S, what=f"prediction {request_id} to be recorded")
        return request_id, row.variant

    def _predict_again(self, context: Context, restored: LocalTarget) -> dict[str, Any]:
        """Ask the restored replica for the recorded prediction, with the restored image."""
        layout = restored.layout
        row = sql.prediction(restored.endpoints, context.facts["marker"])
        if row is None:
            return {"recorded": None, "repeated": None, "why": "the recorded prediction is not in the restored log"}
        digests = objects.checksums(layout.objects)
        image = next((name for name, digest in digests.items() if digest == row.input_sha256), None)
        if image is None:
            return {"recorded": row.bits, "repeated": None, "why": "its image is not among the restored objects"}
        direct = replace(restored.endpoints, ingress=layout.url(layout.replicas[0]))
        status, body = http.predict(direct, Path(layout.objects / image))
        if status != httpx.codes.OK:
            why = f"the restored replica answered {status}: {body.get('detail')}"
            return {"recorded": row.bits, "repeated": None, "why": why}
        return {"recorded": row.bits, "repeated": sql.float32_bits(body["probabilities"]), "why": ""}


def _local(context: Context) -> LocalTarget:
    if not isinstance(context.target, LocalTarget):
        raise CannotRun(f"target {context.target.name} cannot be restored beside itself")
    return context.target
