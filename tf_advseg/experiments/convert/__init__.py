"""What goes in and out: published weights, data sets, exported networks."""
