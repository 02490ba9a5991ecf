"""Measurements that people take by hand: `python -m tests.measurements.click_times`."""
