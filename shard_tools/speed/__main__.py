"""Write every recording also slower and faster:  python -m shard_tools.speed SOURCE TARGET"""

import sys

from shard_tools.speed.command import main

if __name__ == "__main__":
    sys.exit(main())
