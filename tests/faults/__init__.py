"""Faults on purpose: kills, preemptions, damaged files; scripts run as `python -m tests.faults.kills`."""
