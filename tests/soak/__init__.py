"""Send for a long time through servers that fail at random, and compare what is told with what they took."""
