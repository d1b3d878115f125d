"""Episodes on disk and pictures of them."""
