"""The operator's console: its server, its commands and who may give them."""
