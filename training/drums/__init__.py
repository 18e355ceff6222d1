"""How the drum network was made: sounds, songs, training and evaluation by one command."""
