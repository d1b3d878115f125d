"""``gwm setup``: a site file by asking, on a terminal or on a page."""
