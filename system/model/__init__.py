"""The model: its network, the transform in front of it, and the artifact that is served."""
