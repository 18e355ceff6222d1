"""Routes of speech to text: the contract's and OpenAI's."""
