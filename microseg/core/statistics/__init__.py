"""Every statistic of a measurement: plain arrays in, frozen results out."""
