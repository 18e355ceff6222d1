"""How whisper-micro was made: data, training, export and evaluation by one command."""
