"""Statistics of evaluation."""
