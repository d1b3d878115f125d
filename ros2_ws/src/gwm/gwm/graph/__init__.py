"""The list of processes, its arguments, and when a process is started again. Standard library
only.
"""
