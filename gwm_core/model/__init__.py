"""The networks, their configurations and their checkpoints."""
