"""`python -m serve_app` does what `serve-app` does."""

from serve_app.cli import main

if __name__ == "__main__":
    main()
