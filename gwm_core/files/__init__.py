"""Reading and writing files: JSON, YAML, atomic exports, checksums."""
