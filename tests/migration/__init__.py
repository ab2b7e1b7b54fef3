"""Converts results files from named metrics to rows; removed once all are converted."""
