"""How fast rendering, lifting and policies run."""
