"""The verbs of the ``gwm`` command, a file per group; each declares its arguments and what runs."""
