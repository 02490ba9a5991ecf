"""What a person sees of a job in the terminal, and where the lines of Ray and MLflow go instead."""
