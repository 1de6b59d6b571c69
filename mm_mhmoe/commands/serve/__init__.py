"""`mm-mhmoe serve`: a page on this machine to try models by hand."""
