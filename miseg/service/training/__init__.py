"""One experiment under Ray Train: loop, data streams, worker, recorder."""
