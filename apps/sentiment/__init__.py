"""Sentiment of reviews: many words in, one class out."""
