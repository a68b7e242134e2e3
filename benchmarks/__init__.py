"""What the archive costs and how right it is. Ratios within one run; never timed tests."""
