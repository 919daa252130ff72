"""From raw images to a registered model. Read `steps.py` first."""
