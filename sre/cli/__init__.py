"""The command `sre`. Results go to stdout, narration to stderr; `--json` prints one document and nothing else."""
