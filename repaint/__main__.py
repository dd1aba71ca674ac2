"""`repaint`, and `python -m repaint`: Ctrl-C is one line even while modules are still being read."""

import sys
import warnings


def main() -> None:
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of a damaged file one line is enough, and it is ours
    try:
        from .cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("repaint: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
