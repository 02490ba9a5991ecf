"""Servers, and what goes wrong between them and us."""
