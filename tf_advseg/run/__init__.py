"""What every run has: its context, data set, labelled images, model folders, averaged weights."""
