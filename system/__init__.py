"""The production ML system: serving and training. One role per process, see `__main__.py`."""

__version__ = "0.2.0"
