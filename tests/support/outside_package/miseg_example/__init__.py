"""A package that adds to miseg one thing of each kind."""
