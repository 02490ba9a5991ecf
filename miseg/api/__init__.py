"""The Python interface: `miseg.train`, `miseg.tune`, `miseg.study` and `miseg.load`, for notebooks and scripts.

What is here runs the same code as the commands of these names. Nothing of an extra is imported before a function is
called, so that the functions are there without one, and say which they need.
"""
