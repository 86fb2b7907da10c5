"""Every field an experiment can have, with its default. An experiment file changes what differs.

Configs are data: scalars, strings, tuples and dicts. Durations are strings with a unit, '300 steps', '10 epochs' or
'2000000 examples'; '' or '0 steps' switches off what the duration drives.
"""

from ml_collections import ConfigDict, config_dict


def base() -> ConfigDict:
    """Returns the default config, unlocked; `training/config.py` locks it after the experiment has filled it in."""
    config = ConfigDict()
    config.seed = 0
    config.population = 1  # runs trained at once as one process, with seeds from `seed` on, in <workdir>/seed<seed>
    config.total = '10 epochs'  # length of the whole training
    config.batch_size = 128  # global: over all devices and hosts
    config.precision = 'float32'  # compute type of the model, 'float32' or 'bfloat16'; parameters stay float32
    config.remat = False  # keep of the forward pass what convolutions and matrix products give; compute the rest again
    config.ema_decay = 0.0  # exponential moving average of params and batch_stats, evaluated instead of them; 0: off
    config.log_every = '100 steps'
    config.writers = ('tensorboard',)  # what takes metrics besides metrics.jsonl: 'tensorboard', 'mlflow', 'wandb'
    config.tensorboard = True  # False: no 'tensorboard' among the writers
    config.figures = True  # images of evaluations and learning curves, a third of a second each

    config.data = ConfigDict()
    # 'tfds', 'folder' (class/image), 'mask_folder' (images and masks), 'voc_folder', 'coco', 'yolo_folder' (images and
    # boxes), 'caption_folder' (images and captions), 'csv' (tables), 'npz' (arrays of numpy), 'text' (files),
    # 'tfds_text', 'texts' (tables or class folders of texts), 'tfds_texts' (those of tfds with a label each),
    # 'made_texts' ('dates', 'reviews', ...), 'stories' (with questions; also drawn ones), 'points' (drawn ones, see
    # input_pipeline/point_source.py), 'sounds' (class/wave, or drawn), 'arrays' (below) or 'seeds' (numbers alone, for
    # tasks that make their own data)
    config.data.source = 'tfds'
    config.data.name = ''  # tfds name, or path of the folder
    config.data.data_dir = config_dict.placeholder(str)  # tfds data_dir; None: $TFDS_DATA_DIR or ~/tensorflow_datasets
    config.data.manual_dir = config_dict.placeholder(str)  # files tfds may not fetch; None: <data_dir>/downloads/manual
    config.data.download = False  # let tfds download and prepare what is missing
    config.data.train = 'train'  # split to train on, tfds style: 'train', 'train[:10%]', 'train[:-5000]', 'train+test'
    # Cross-validation: what config.data.train names is divided into so many folds; training leaves out number `fold`,
    # which is the evaluation split 'fold'. Other splits are what they were. 0: off
    config.data.folds = 0
    config.data.fold = 0
    # Keeps examples in one fold: a key of their metadata, such as 'patient', a regex over file paths, or
    # 'near_duplicates', of images that are almost the same one
    config.data.group_by = ''
    config.data.sampling = 'uniform'  # or 'balanced': training examples of each class equally often, drawn again
    config.data.memory_limit_mb = 2048  # image data sets up to this size are kept in memory, larger ones stream
    # Whether a training set that is kept in memory lies whole on every device: batches are gathered there, the same
    # examples in the same order, and a step is sent nothing but their indices.
    config.data.on_device = False
    config.data.workers = 0  # threads that read ahead when streaming; 0: one per core
    config.data.processes = 0  # that read in place of those threads, for formats that Python itself decodes; 0: none
    # Smallest and largest share of the area that is cropped from a training image in a 'folder' or by 'tfds', such as
    # (0.08, 1.0); images are then read from their files in every epoch. (): whole images.
    config.data.random_resized_crop = ()
    config.data.max_unreadable = 0.01  # share of images, or of boxes, left out that cannot be used; more is an error
    config.data.max_boxes = 100  # most boxes of an image, of data with boxes; more are an error that says how many
    config.data.merge_classes = ()  # (new class, (old names or regexes, ...)) pairs; examples of none are left out
    config.data.arrays = ConfigDict()  # for source 'arrays': feature name -> tuple of examples
    # For source 'csv': columns of numbers that are the input 'x'; (): all but the target. Of 'texts': the column that
    # is read, 'text', or with the one that is written, ('source', 'target')
    config.data.columns = ()
    # For source 'csv': column to be predicted, or several of numbers, 'height,width'; of 'texts' the class, 'label'
    config.data.target = ''
    config.data.image_column = ''  # for source 'csv': column with image files, relative to the table; '': no images

    # Examples are regions of images with boxes, cut out and brought to config.image.size, for R-CNN; see
    # input_pipeline/region_source.py
    config.data.regions = ConfigDict()
    config.data.regions.kind = ''  # where they come from: 'selective_search'; '': examples are whole images
    config.data.regions.image_size = (256, 256)  # height, width of the images that regions are cut out of
    config.data.regions.context = 0.07  # share of the sides of what is cut out that is around the region, on each side
    config.data.regions.limit = 400  # most regions of an image
    config.data.regions.per_image = 64  # of them in training
    config.data.regions.positive_share = 0.25  # of those at most, that show objects
    config.data.regions.positive_overlap = 0.5  # intersection over union with an object, from which on they show it

    config.image = ConfigDict()  # how an image becomes the model's input; travels in the checkpoint
    config.image.size = (28, 28)  # height, width: other sizes are resized to it
    config.image.resize = 'stretch'  # 'cover' keeps proportions and cuts the centre, 'crop' of an image 8 / 7 larger
    config.image.channels = 1  # 1 (grey), 3 (colour), or as many as all images have
    config.image.bits = 8  # 8 or 16 per channel that image files are read with; arrays keep their type
    # Per channel: input = (pixel - mean) / std, with pixels in [0, 1], or floats as they are
    config.image.mean = (0.0,)
    config.image.std = (1.0,)
    config.image.local_mean = 0  # pixels: divide by the mean brightness around, against shading in MRI; 0: off
    config.image.samplewise_center = False  # subtract from each image its own mean, before mean and std above
    config.image.samplewise_std = False  # divide each image by its own standard deviation, likewise
    # ZCA whitening, learned from the training images, after all of these: what is added to the variances, 0.01 to 0.1
    # is usual; 0: off. For small images, see input_pipeline/whitening.py
    config.image.zca_epsilon = 0.0
    config.image.sound = ConfigDict()  # how sounds become images, for source 'sounds': as spectrograms
    config.image.sound.rate = 8000  # samples per second that sounds are brought to: pitches up to half of it are seen
    config.image.sound.seconds = 1.0  # what is longer is cut off, what is shorter is followed by silence
    config.image.sound.window = 256  # samples of which the pitches are found together; 0: the wave itself, 'x'
    config.image.sound.step = 64  # samples from one window to the next
    config.image.sound.range_db = 60.0  # decibels between the loudest, white, and black

    config.augment = ConfigDict()  # inside the train step, on the device; see input_pipeline/augmentation.py
    config.augment.invert = 0.0  # probability of 1 - image
    config.augment.flip_horizontal = 0.0  # probability
    config.augment.flip_vertical = 0.0  # probability
    config.augment.transpose = 0.0  # probability of rows as columns, of square images
    config.augment.homography = 0.0  # +- fraction by which each corner moves: random perspective; 0.15 is the most
    config.augment.shift = 0.0  # +- fraction of height and width
    config.augment.width_shift = 0.0  # +- fraction of the width, in place of shift
    config.augment.height_shift = 0.0  # +- fraction of the height, in place of shift
    config.augment.rotation = 0.0  # +- degrees
    config.augment.zoom = 0.0  # scale in 1 +- zoom
    config.augment.shear = 0.0  # +- degrees
    config.augment.elastic = 0.0  # std of smooth displacements, fraction of height and width; 0.01 to 0.03 is usual
    config.augment.brightness = 0.0  # +- added to pixels in [0, 1]
    config.augment.contrast = 0.0  # factor in 1 +- contrast
    config.augment.gamma = 0.0  # exponent of pixels in [0, 1], log-uniform in 1 / (1 + gamma) to 1 + gamma
    config.augment.noise = 0.0  # largest standard deviation of Gaussian noise on pixels in [0, 1]
    config.augment.channel_shift = 0.0  # +- added per channel
    config.augment.random_crop = 0  # pixels of padding on each side before a crop of the original size
    config.augment.rand_augment = 0  # operations per image of RandAugment, 2 is usual; 0: off
    config.augment.rand_augment_magnitude = 9  # their strength, of 10
    config.augment.mixup = 0.0  # images of a batch mixed in pairs, with their labels: alpha, 0.2 is usual; 0: off
    config.augment.cutmix = 0.0  # a box of one image in another, with their labels: alpha, 1.0 is usual; 0: off
    config.augment.mix_probability = 1.0  # share of the batches that mixup or cutmix change; both on: half each
    config.augment.cutout = 0  # side in pixels of a square that is blanked
    # What geometric changes show from outside the image: 'edge' repeats its last pixels, 'reflect' mirrors it, 'wrap'
    # repeats it, '0' to '1' is a grey value. random_crop shows zeros unless it is 'reflect' or 'wrap'
    config.augment.fill = 'edge'

    config.text = ConfigDict()  # how texts become tokens; the vocabulary travels in the checkpoint
    # 'words' (lower case, no punctuation), 'pieces' (words, digits and punctuation marks, lower case), 'whitespace'
    # (what it parts) or 'characters'
    config.text.tokens = 'words'
    config.text.lowercase = False  # before they are split; 'words' always are
    config.text.min_count = 1  # rarer tokens of the training texts are read as <unk>
    config.text.max_size = 0  # most tokens of the vocabulary; 0: all
    config.text.vocabulary_from = ''  # workdir of a run whose vocabulary to use instead
    config.text.max_length = 20  # words of a caption, of a text with a label, or of a sentence of a story
    config.text.max_sentences = 50  # of a story: its last so many are read
    config.text.num_steps = 20  # tokens of a window of running text, over which gradients go back
    config.text.streams = 20  # contiguous parts of an evaluation text that are read side by side
    config.text.window = 0  # words on each side of a word that are near it: pairs of words; 0: running text
    config.text.subsample = 1e-3  # of pairs: words of more than this share of the text are left out now and then
    config.text.source = ConfigDict()  # the same of the texts that are translated; those above are of what is written
    config.text.source.tokens = 'words'
    config.text.source.lowercase = False
    config.text.source.min_count = 1
    config.text.source.max_size = 0
    config.text.source.max_length = 50  # words; longer ones are cut in training and refused by predict

    config.model = ConfigDict({'name': ''})  # name in models/__init__.py and the fields of that module
    config.task = ConfigDict({'name': 'classification', 'label_smoothing': 0.0})  # and fields of the task's module

    config.optimizer = ConfigDict()
    config.optimizer.name = 'adam'  # sgd, adam, adamw, rmsprop, adagrad, or any of optax: lion, lamb, lars, muon, ...
    config.optimizer.learning_rate = 1e-3
    config.optimizer.momentum = 0.9  # sgd and rmsprop
    config.optimizer.nesterov = False  # sgd
    config.optimizer.b1 = 0.9  # adam and adamw
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.arguments = ConfigDict()  # of the optax function of that name, beyond what has a field here
    config.optimizer.weight_decay = 0.0
    # True: a share of the weights, as adamw has it; False: added to the gradient; None: as is usual for the optimizer,
    # which is decoupled for adamw, what optax does where its function has a decay that can be masked, else coupled
    config.optimizer.decoupled_weight_decay = config_dict.placeholder(bool)
    config.optimizer.weight_decay_on = ('.*kernel',)  # regexes over parameter paths such as 'conv1/kernel'
    config.optimizer.clip_norm = 0.0  # global gradient norm; 0: off
    config.optimizer.accumulate = 1  # micro-batches per step: same batch, less memory
    config.optimizer.freeze = ()  # regexes of parameters that do not learn
    config.optimizer.learning_rate_scales = ()  # (regex, factor) pairs, first match wins

    config.schedule = ConfigDict()
    # constant, exponential, cosine, piecewise, linear, polynomial, one_cycle, warmup_stable_decay, or any of optax:
    # sgdr_schedule, ...
    config.schedule.name = 'constant'
    config.schedule.arguments = ConfigDict()  # polynomial: power; one_cycle: div_factor, ...; of the optax function
    config.schedule.warmup = '0 steps'  # linear from 0, before any of them; one_cycle: the cosine up, '0 steps': 30 %
    config.schedule.decay_rate = 0.95  # exponential: learning_rate * decay_rate ** (step / decay_steps)
    config.schedule.decay_steps = '1 epochs'  # warmup_stable_decay: the last steps, linear
    config.schedule.staircase = False
    config.schedule.final_factor = 0.0  # cosine, linear, polynomial and warmup_stable_decay: where they end
    config.schedule.boundaries = ()  # piecewise: durations at which the next factor begins
    config.schedule.factors = ()  # piecewise: factors of learning_rate from each boundary on

    config.evaluation = ConfigDict()
    config.evaluation.every = '1 epochs'  # the periodic sets, also at the end
    config.evaluation.batch_size = 500  # over all devices, fewer where memory needs it; does not change any metric
    config.evaluation.tta = 'none'  # test-time augmentation: 'none', 'flip' or 'ten_crop'
    config.evaluation.periodic = ('validation',)  # names of sets below
    config.evaluation.final = ('test',)  # evaluated once, at the end
    # Name -> 'split', and where a set differs: 'invert', 'data' and 'image' (what is read, and how), 'augment' (as
    # above, but always alike) and 'corrupt' (kind -> severity, 1 to 5); see docs/how-to/evaluate.md
    config.evaluation.sets = ConfigDict()
    config.evaluation.sets.validation = ConfigDict({'split': 'validation', 'invert': False})
    config.evaluation.sets.test = ConfigDict({'split': 'test', 'invert': False})

    config.checkpoint = ConfigDict()
    config.checkpoint.every = '1 epochs'  # also at the end
    config.checkpoint.keep = 2  # the latest so many, and the best one
    config.checkpoint.best_metric = 'validation/accuracy'  # '' keeps no best
    config.checkpoint.best_mode = 'max'

    config.early_stopping = ConfigDict()  # ends a training when a metric of an evaluation no longer gets better
    config.early_stopping.metric = ''  # such as 'validation/loss'; '': off
    config.early_stopping.mode = 'max'  # 'max' or 'min'
    config.early_stopping.patience = 10  # evaluations without improvement after which the training ends
    config.early_stopping.min_delta = 0.0  # by how much a value must be better to count as improvement

    config.init_from = ConfigDict()  # start from another run's weights; see docs/how-to/reuse-a-checkpoint.md
    config.init_from.workdir = ''  # '': from scratch
    config.init_from.step = 'best'  # 'best', 'last' or a number
    config.init_from.include = ('.*',)  # regexes over paths such as 'params/conv1/kernel'
    config.init_from.skip = ()  # regexes of what to leave at its initial value
    config.init_from.rename = ()  # (regex, replacement) pairs from their names to ours

    config.cached_features = ConfigDict()  # train what comes after a frozen body on what it says of each image, once
    config.cached_features.endpoint = ''  # where the model is cut, such as 'pool5'; '': nothing is cached
    config.cached_features.flip = False  # mirrored training images too
    config.cached_features.batch_size = 64  # images that the body looks at together

    config.parallel = ConfigDict()
    # 'pmap': every device runs the step on its rows; 'jit': one program that XLA divides, parameters in shards if
    # `sharding` says so. The same numbers.
    config.parallel.mode = 'pmap'
    config.parallel.devices = 0  # devices per process; 0: all there are
    # jit: 'replicated': every device has all parameters, their averages and the optimizer's state; 'fsdp': each a share
    config.parallel.sharding = 'replicated'
    # (regex over parameter paths, 'replicated', 'fsdp' or the number of a dimension) pairs, first match wins
    config.parallel.sharding_rules = ()
    config.parallel.min_shard_mb = 4.0  # fsdp: smaller arrays stay on every device
    config.parallel.batch_norm = 'global'  # statistics of the 'global' batch; pmap: or of the rows of each 'device'

    config.profile = ConfigDict()  # a trace for TensorBoard or Perfetto in <workdir>/profile
    config.profile.start_step = 0
    config.profile.steps = 0  # 0: off

    config.inspect = ConfigDict()  # more of a training shown, see docs/how-to/watch-a-training.md
    # Histograms of weights and gradients, such as '100 steps', each of which costs about as much as a step; '': off
    config.inspect.histograms_every = ''
    # The values of a model of at most 16 numbers, and of two of them the loss surface with their path; '': off
    config.inspect.parameters_every = ''
    config.inspect.program = False  # what the compiled train step is made of, the layers of the model and its graph
    return config
