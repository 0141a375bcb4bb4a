"""Train the restorer:  accelerate launch -m timbre.train CONFIG [section.key=value ...]"""

import sys

from timbre.train.step import main

if __name__ == "__main__":
    sys.exit(main())
