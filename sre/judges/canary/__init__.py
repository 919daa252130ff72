"""The canary gate's arithmetic: counts in, decision out. No clock, no network."""
