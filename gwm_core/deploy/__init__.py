"""What runs next to the robot: graphs compiled from trained networks, in a bundle that is checked before it acts."""
