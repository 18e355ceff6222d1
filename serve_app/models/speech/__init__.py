"""Speech: voice activity, recognition, words and their speakers."""
