"""A folder of somebody's label files -> a Reading -> a Conversion: classes decided, every loss accounted for."""
