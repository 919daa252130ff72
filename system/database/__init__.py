"""The configuration of the database cluster and of its backups."""
