"""The ladder that every manifest climbs; `python -m tests.manifests` writes what is generated."""
