"""Optimisers, learning-rate schedules, averages of weights and compiled networks: torch, and nothing of Ray."""
