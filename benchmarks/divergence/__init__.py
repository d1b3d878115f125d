"""Whether the world model notices what no plan expected."""
