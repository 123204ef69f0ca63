"""The SMTP conversation, as transcripts."""
