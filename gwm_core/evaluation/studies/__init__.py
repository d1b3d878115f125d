"""Studies: many trainings under equal conditions, resumable."""
