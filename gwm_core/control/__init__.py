"""The gate and what it is made of: targets, follower, stops; teleoperation and the checker.

Nothing in here imports torch.
"""
