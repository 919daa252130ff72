"""The production ML system: serving and training. One role per process, see `__main__.py`."""
