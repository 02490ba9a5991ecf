"""From names of files and folders, and lists of them, to images with masks, splits and groups."""
