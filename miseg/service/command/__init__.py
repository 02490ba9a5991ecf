"""Options and start of every job."""
