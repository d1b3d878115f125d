"""What nodes share: their base, message conversion and worker threads."""
