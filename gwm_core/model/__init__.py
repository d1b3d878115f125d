"""Networks: blocks, flow matching, policy."""
