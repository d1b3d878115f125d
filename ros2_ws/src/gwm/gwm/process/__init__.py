"""Starting, supervising and ending the graph."""
