"""``gwm bench gpu``: everything that needs a GPU, measured by one command."""
