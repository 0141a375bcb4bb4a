"""Train the restorer:  accelerate launch -m timbre.train CONFIG [section.key=value ...]"""

import sys

from timbre.command import start

if __name__ == "__main__":
    sys.exit(start("timbre.train.command"))
