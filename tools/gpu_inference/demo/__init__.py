"""The `demo` verb: cluster, chart, traffic, autoscaler, report, in one command."""
