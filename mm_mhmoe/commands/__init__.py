"""What the subcommands do. The only place that joins the library with data and evaluation."""
