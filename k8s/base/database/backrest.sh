# Makes the stanza where this member is the primary, for without it no WAL is archived; then stays, for whoever backs up from here.
set -eu
primary() { test "$(psql -h /run/postgresql -U backup -d postgres -tAc 'SELECT pg_is_in_recovery()' 2>&1)" = f; }
stopped() { exit 0; }
trap stopped TERM INT
while :; do
  if primary; then
    pgbackrest --stanza=ml stanza-create || echo "the stanza cannot be made yet"
  fi
  sleep 15 & wait $!
done
