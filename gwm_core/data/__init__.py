"""Episodes on disk, read and checked."""
