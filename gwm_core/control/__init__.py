"""Targets, the follower of the reference, stops and teleoperation. Nothing in here imports
torch.
"""
