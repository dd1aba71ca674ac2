"""`repaint`, and `python -m repaint`: Ctrl-C is one line even while modules are still being read."""

import sys


def main() -> None:
    try:
        from .cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("repaint: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
