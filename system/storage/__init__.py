"""What outlives a process: objects in buckets, rows in PostgreSQL."""
