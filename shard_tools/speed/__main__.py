"""Write every recording also slower and faster:  python -m shard_tools.speed SOURCE TARGET"""

import sys

from timbre.command import start

if __name__ == "__main__":
    sys.exit(start("shard_tools.speed.command"))
