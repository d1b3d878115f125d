"""The gate on the bench: fuzzing it, and every fault that can be staged without hardware."""
