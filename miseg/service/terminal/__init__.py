"""The terminal of a job: where a training is, Ctrl-C, and the log that the lines of Ray and MLflow go to."""
