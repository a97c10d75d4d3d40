"""python -m iovabitmap: the same as the command iovabitmap."""

from .cli import main

if __name__ == "__main__":
    main()
