"""The failover study: seeded schedules of faults against a whole cluster while clients write, until loss is shown to be rare."""
