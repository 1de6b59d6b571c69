"""Tasks, metrics, runner, records and the report of mm-mhmoe. Import what you need from the modules."""
