"""Episodes of the simulation: by the expert, at random, by a policy, or perturbed."""
