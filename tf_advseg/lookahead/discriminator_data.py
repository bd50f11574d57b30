"""What the discriminator is trained on: D_t and B joined, as tf.data.

An item is (image, truth) or (image, a map from one slot). Maps are of the whole padded,
unflipped image; scale, crop and flip are drawn once and applied to image, truth and map
together.
"""
import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import augment
from tf_advseg.data.augmentation import official_preprocessing
from tf_advseg.data.records.record_set import CALLS
from tf_advseg.lookahead import discriminator_memory
from tf_advseg.training import loop

REAL = -1
UNCOUNTED = -1.0  # the target of an item that is not counted


def items(num_images, num_slots, seen=None):
    """All (image position, slot) pairs: every truth once, every slot's map of every image.

    Args:
      num_images: images in the set.
      num_slots: map sets in the buffer.
      seen: per slot, the set of positions it holds maps of; None for all.

    Returns:
      int64 [n, 2]; slot REAL stands for the truth.
    """
    pairs = [(position, REAL) for position in range(num_images)]
    for slot in range(num_slots):
        held = range(num_images) if seen is None else sorted(seen[slot])
        pairs.extend((position, slot) for position in held)
    return np.array(pairs, np.int64).reshape(-1, 2)


def places(pairs):
    """int64 [n]: keys by which every item is mirrored and cut by itself."""
    return np.arange(len(pairs), dtype=np.int64)


def filled(pairs, batch_size):
    """The items and their targets, followed by items of no account up to a whole batch.

    Args:
      pairs: int64 [n, 2] from `items`.
      batch_size: examples of a batch.

    Returns:
      pairs int64 [m, 2] with m a multiple of batch_size, and float32 [m]: 1 for a truth, 0 for a
      map, UNCOUNTED for the items added.
    """
    missing = -len(pairs) % batch_size
    targets = (pairs[:, 1] == REAL).astype(np.float32)
    return (np.concatenate([pairs, np.repeat(pairs[:1], missing, axis=0)]),
            np.concatenate([targets, np.full(missing, UNCOUNTED, np.float32)]))


def slots_of(pairs, num_slots):
    """The slot whose map comes with each item: a truth's are all in turn, as the fakes are of all.

    Were they of one slot, truths would be as sure as that slot's model, and fakes as the others.

    Args:
      pairs: int64 [n, 2] from `items`, in the order wanted.
      num_slots: of the buffer, at least 1.

    Returns:
      int64 [n].
    """
    is_real = pairs[:, 1] == REAL
    return np.where(is_real, (np.cumsum(is_real) - 1) % num_slots, pairs[:, 1])


def batches(records, ids, pairs, lookup, map_shape, map_dtype, batch_size, crop_size, stride,
            seed, flip=True, drop_remainder=False, random_scale=None, pad_value=augment.PAD_VALUE,
            looks=None, targets=None, num_slots=0, keys=None):
    """Batches for `methods.load.LoAd.discriminator_step`, in the order of `pairs`.

    Args:
      records: a data.records.record_set.RecordSet.
      ids: image ids; `pairs` refers to positions in this list.
      pairs: int64 [n, 2] from `items`, in the order wanted.
      lookup: function(slot, image id as bytes) -> NumPy map of `map_dtype`, see
        `methods.load.LoAd.maps`; for slot REAL an empty one of `map_shape`. TensorFlow keeps it for
        the life of the process: pass the same one every time.
      map_shape: static shape of a whole map where all images are padded to the crop.
      map_dtype: its NumPy dtype.
      batch_size: examples per global batch.
      crop_size: (h, w) in pixels.
      stride: image pixels per map pixel; crops of larger images fall on its multiples.
      seed: int32[2] for flips and crops.
      flip: whether to flip at random.
      drop_remainder: leave out a last batch that is smaller.
      random_scale: official_preprocessing.RandomScale, or None; see `_scale`.
      pad_value: see `augment.pad_to`.
      looks: `data.augmentation.recipes.Recipe.looks`, or None; of truths' and maps' images alike.
      targets: float32 [n], what the discriminator is asked for; None: 1 for truths, 0 for maps.
      num_slots: above 0, truths come with maps as well, of the slots in turn, since the segmentor's
        map decides what is shown as true; 0: with empty ones.
      keys: int64 [n]; items of one key are mirrored, cut and coloured alike. None: each by itself.

    Returns:
      tf.data.Dataset of {'image' float32 [B,h,w,3], 'label' int32 [B,h,w], 'map', 'is_real' and
      'target' float32 [B]}.
    """
    map_type = np.dtype(map_dtype)
    is_real = (pairs[:, 1] == REAL).astype(np.float32)
    targets = is_real if targets is None else np.asarray(targets, np.float32)
    slots = slots_of(pairs, num_slots) if num_slots else pairs[:, 1]

    # Reading calls Python, which op determinism makes serial; it is cheap, and what is not
    # (decoding, padding, flipping) stays parallel in a map of its own.
    def read(record, slot, size, key, judged):
        stored = tf.numpy_function(lookup, [slot, record['image_id']], map_type)
        stored = tf.ensure_shape(stored, [None] * len(map_shape))
        return record, stored, slot, size, key, judged

    def prepare(record, stored, slot, size, key, judged):
        item_seed = augment.example_seed(tf.constant(seed, tf.int32), key)
        image, label = record['image'], record['label']
        if looks is not None:
            image = looks(image, item_seed)
        image, label = augment.pad_to(image, label, size[0], size[1], pad_value)
        image, label, stored = _cut(image, label, stored, slot, size, crop_size, map_shape, stride,
                                    item_seed, random_scale, pad_value)
        if flip:
            image, label, stored = augment.random_flip((image, label, stored), item_seed)
        return {'image': tf.ensure_shape(image, [*crop_size, 3]),
                'label': tf.cast(tf.ensure_shape(label, crop_size), tf.int32),
                'map': tf.ensure_shape(stored, map_shape), 'is_real': judged[0],
                'target': judged[1]}

    chosen = [ids[position] for position in pairs[:, 0]]
    sizes = pipeline.padded_sizes(records.image_sizes(chosen), crop_size)
    slices = tf.data.Dataset.from_tensor_slices
    dataset = tf.data.Dataset.zip((records.dataset(chosen), slices(slots), slices(sizes),
                                   slices(places(pairs) if keys is None else keys),
                                   slices((is_real, targets))))
    dataset = dataset.map(read).map(prepare, num_parallel_calls=CALLS, deterministic=True)
    return dataset.batch(batch_size, drop_remainder=drop_remainder).prefetch(2)


def _cut(image, label, stored, slot, size, crop_size, map_shape, stride, seed, random_scale,
         pad_value):
    """Image, truth and map of the crop's size: scaled at random where that is wanted, and cut."""
    if random_scale is not None and random_scale.active:
        image, label, stored, size = _scale(image, label, stored, slot, random_scale.draw(seed),
                                            crop_size, map_shape, stride, pad_value)
    return _crop(image, label, stored, slot, size, crop_size, map_shape, stride, seed)


def _scale(image, label, stored, slot, factor, crop_size, map_shape, stride, pad_value):
    """Resizes image, truth and map, and pads them to the crop where they have become smaller.

    The new size is the multiple of the stride nearest to the factor's, plus 1: so each point of the
    map stays on its pixel. Beyond the image the map is 0; it is not looked at there, where the
    truth is unlabelled.

    Returns:
      image, label, stored, int32 [2] (height, width) of the image.
    """
    cells = tf.cast(tf.shape(label) - 1, tf.float32) * factor / float(stride)
    cells = tf.maximum(tf.cast(tf.round(cells), tf.int32), 1)
    size = cells * stride + 1
    image, label = official_preprocessing.resized(image, label, size)
    whole = tf.maximum(size, tf.constant(crop_size, tf.int32))
    image, label = augment.pad_to(image, label, whole[0], whole[1], pad_value)

    def of_the_buffer():
        resized = official_preprocessing.resized_map(stored, cells + 1)
        missing = tf.maximum(tf.constant(map_shape[:2], tf.int32) - cells - 1, 0)
        paddings = [[0, missing[0]], [0, missing[1]]] + [[0, 0]] * (len(map_shape) - 2)
        return tf.pad(resized, paddings)

    return image, label, tf.cond(slot == REAL, lambda: stored, of_the_buffer), whole


def _crop(image, label, stored, slot, size, crop_size, map_shape, stride, seed):
    """Cuts one crop from image, truth and map; nothing happens where the image fits it."""
    top, left = augment.random_crop_offsets(size[0], size[1], crop_size, seed, multiple=stride)
    image = augment.crop(image, top, left, crop_size)
    label = augment.crop(label, top, left, crop_size)
    # A truth's empty map has the crop's size already.
    top, left = tf.cond(slot == REAL, lambda: (0, 0), lambda: (top // stride, left // stride))
    return image, label, augment.crop(stored, top, left, map_shape)


class DiscriminatorData:
    """Images and buffer joined, for training and for the hold-out.

    Where the discriminator sees no more than the logits' own points, its items come from memory
    (lookahead/discriminator_memory.py).

    Args:
      records, train_ids, holdout_ids: the images.
      buffer: MapBuffer.
      map_shape, map_dtype: of a stored map where the image is padded to the crop.
      stride: image pixels per map pixel.
      settings: LookaheadSettings.
      crop_size: (h, w).
      strategy: batches of `training` and `hold_out` are distributed over it.
      method: methods.load.LoAd, for its encoding and its image features.
      pad_value: see `augment.pad_to`.
      withheld: ids of training images that D is judged on and not trained on; () where it is judged
        on the hold-out.
    """

    def __init__(self, records, train_ids, holdout_ids, buffer, map_shape, map_dtype, stride,
                 settings, crop_size, strategy, method, pad_value=augment.PAD_VALUE, withheld=()):
        self._records = records
        apart = set(withheld)
        self._ids = {'train': [i for i in train_ids if i not in apart],
                     'hold_out': list(withheld) or list(holdout_ids)}
        self._buffer = buffer
        self._map = (tuple(map_shape), np.dtype(map_dtype))
        self._stride = stride
        self._settings = settings
        self._recipe = settings.recipe
        self._crop_size = crop_size
        self._strategy = strategy
        self._pad_value = pad_value
        self._encoding, self._features = method.encoding, method.features
        if settings.map_images == 'seen' and method.encoding.needs_prediction:
            raise errors.UserError(f'input_encoding.truth = {method.encoding.truth!r} with '
                                   "lookahead.map_images = "
                                   "'seen': the buffer has no map of every image; set one of the "
                                   'two to its default')
        self._kept_lookup = self._lookup  # one object for all data sets: see `batches`
        sizes = records.image_sizes(list(train_ids) + list(holdout_ids))
        self.in_memory = discriminator_memory.fits(
            method.encoding, method.map_kind, stride, crop_size, sizes, settings,
            getattr(getattr(buffer, 'policy', None), 'max_slots', 3),
            0 if method.features is None else getattr(method.features, 'channels', 0))
        self._of_images, self._of_buffer = {}, {}

    @property
    def num_slots(self):
        """Map sets in the buffer now."""
        return len(self._buffer.slots)

    def training_items(self):
        """All (image, slot) pairs of the training set, see `discriminator_data.items`."""
        ids = self._ids['train']
        seen = None
        if self._settings.map_images == 'seen':
            place = {image_id: position for position, image_id in enumerate(ids)}
            seen = [{place[i] for i in slot.ids_of('train') if i in place}
                    for slot in self._buffer.slots]
        return items(len(ids), self.num_slots, seen)

    def training(self, pairs, seed, targets=None):
        """Distributed training batches in the order of `pairs`; `targets` as in `batches`."""
        whole = len(pairs) >= self._settings.discriminator_batch_size
        return loop.distribute(
            self._batches('train', pairs, seed, self._recipe.flip, whole, targets), self._strategy)

    def local(self, pairs, seed):
        """The same kind of batches, not distributed."""
        whole = len(pairs) >= self._settings.discriminator_batch_size
        return self._batches('train', pairs, seed, self._recipe.flip, whole)

    def hold_out(self):
        """Distributed batches of the hold-out's truths and of every slot's maps of it.

        All are of one size: the last is filled up with items whose 'target' is below 0 and which
        `LoAd.discriminator_counts` leaves out. TensorFlow would trace a second, shape-independent
        graph for another size, and use it from then on; it rounds otherwise than the first, so a
        resumed run would differ in the last bit from one never stopped.
        """
        pairs, targets = filled(items(len(self._ids['hold_out']), self.num_slots),
                                self._settings.discriminator_batch_size)
        return loop.distribute(
            self._batches('hold_out', pairs, np.zeros(2, np.int32), False, True, targets),
            self._strategy)

    def release(self):
        """Forgets the buffer's maps that were read into memory, once a retraining is over."""
        self._of_buffer = {}

    def _lookup(self, slot, image_id):
        """A stored map of B[slot], or an empty one in the place of a truth's."""
        if slot == REAL:
            return np.zeros(*self._map)
        stored = self._buffer.slots[slot].read(image_id.decode(), decoded=False)
        return np.ascontiguousarray(stored, self._map[1])

    def _batches(self, part, pairs, seed, flip, drop_remainder, targets=None):
        size = self._settings.discriminator_batch_size
        keys = pairs[:, 0] if self._settings.discriminator_pairs else places(pairs)
        if self.in_memory:
            if targets is None:
                targets = (pairs[:, 1] == REAL).astype(np.float32)
            images, labels, features = self._images_in_memory(part)
            return discriminator_memory.batches(
                images, labels, self._maps_in_memory(part), pairs,
                slots_of(pairs, self.num_slots), np.asarray(targets, np.float32), size, seed, flip,
                drop_remainder, keys, features)
        recipe = self._recipe if part == 'train' else None
        return batches(
            self._records, self._ids[part], pairs, self._kept_lookup, *self._map, size,
            self._crop_size, self._stride, seed, flip, drop_remainder,
            recipe and recipe.random_scale, self._pad_value, recipe and recipe.looks, targets,
            self.num_slots if self._encoding.needs_prediction else 0, keys)

    def _images_in_memory(self, part):
        """(images, labels, features or None) of a part, read once in a run."""
        if part not in self._of_images:
            ids = self._ids[part]
            features = None
            if self._features is not None:
                features = discriminator_memory.features_of(
                    self._records, ids, self._crop_size, self._features, self._pad_value)
            self._of_images[part] = (*discriminator_memory.at_points(
                self._records, ids, self._crop_size, self._encoding.points, self._pad_value),
                features)
        return self._of_images[part]

    def _at_points(self, stored):
        if stored.ndim == 2:  # a hard map, at the image's resolution
            return discriminator_memory.ids_at_points(stored, self._encoding.points)
        return stored

    def _maps_in_memory(self, part):
        """The maps of the slots alive, read once in a retraining: float16 [slots, N, h', w', C], or
        of hard maps uint8 [slots, N, h', w']."""
        key = (part, tuple(self._buffer.labels))
        if key not in self._of_buffer:
            self._of_buffer = {k: v for k, v in self._of_buffer.items() if k[1] == key[1]}
            self._of_buffer[key] = np.stack([
                np.stack([self._at_points(self._lookup(slot, image_id.encode()))
                          for image_id in self._ids[part]])
                for slot in range(self.num_slots)])
        return self._of_buffer[key]
