"""A checkpoint as a folder, as files and in a store."""
