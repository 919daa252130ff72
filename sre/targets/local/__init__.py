"""The system as real processes on this machine, without root and without a container engine.

`programs.py` finds what is not Python, `tools.py` fetches it; `plan.py` says which processes make a system and `prepare.py`
what they need on disk; `supervisor.py` keeps them running; `target.py` is what drills and commands use.
"""
