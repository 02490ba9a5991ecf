"""The options of `miseg prepare-data`, by the kind of data that they describe."""
