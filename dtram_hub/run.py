"""Run a script with the DT-RAMs registered in timm, for scripts that do not import this package.

    python -m dtram_hub.run validate.py DATA --model dtram_resnet18
    torchrun --nproc_per_node 2 -m dtram_hub.run train.py DATA --model dtram_resnet18

The first word is the path of a script, or the name of a module. The script gets all other words.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    target = sys.argv[1]
    sys.argv = sys.argv[1:]
    if target.endswith(".py"):
        if not Path(target).is_file():
            sys.exit(f"dtram_hub.run: script {target!r} is not a file.")
        sys.path[0] = str(Path(target).resolve().parent)
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
