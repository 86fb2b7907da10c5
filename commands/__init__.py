"""The commands of launch.py, one file each: arguments and what it runs. Add one: a file here, a line in COMMANDS.

A command imports what it runs only when it runs, so that `launch.py --help` answers at once.
"""

from .check import Check
from .compare import Compare
from .crops import Crops
from .embed import Embed
from .evaluate import Evaluate
from .explain import Explain
from .export import Export
from .generate import Generate
from .import_weights import ImportWeights
from .list_experiments import ListExperiments
from .look import Look
from .measure import Measure
from .neighbors import Neighbors
from .predict import Predict
from .prepare import Prepare
from .report import Report
from .serve import Serve
from .show import Show
from .sweep import Sweep
from .train import Train

COMMANDS = {
    'train': Train(),
    'sweep': Sweep(),
    'evaluate': Evaluate(),
    'predict': Predict(),
    'generate': Generate(),
    'report': Report(),
    'compare': Compare(),
    'export': Export(),
    'measure': Measure(),
    'serve': Serve(),
    'embed': Embed(),
    'neighbors': Neighbors(),
    'explain': Explain(),
    'import': ImportWeights(),
    'prepare': Prepare(),
    'crops': Crops(),
    'check': Check(),
    'look': Look(),
    'show': Show(),
    'list': ListExperiments(),
}
