"""What is written for people: every block of code runs, and the words are plain."""
