"""Parts of nodes in files of their own."""
