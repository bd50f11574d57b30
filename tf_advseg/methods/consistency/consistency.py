"""Consistency between two views of unlabelled images, with a mean teacher's targets: its step.

    L = L_ce(labelled) + w(t) sum_p s_p CE(student(strong view)_p, teacher(plain view)_p) + ...

The teacher is an exponential moving average of the student (Tarvainen and Valpola 2017) and
predicts on the plain view of an unlabelled image: scaled, cut and mirrored, no more. The student
sees the same place changed in light, colour and sharpness and with a box of another image in it
(CutMix, for segmentation French et al. 2020), or half of the classes that the teacher names in
another image (ClassMix, Olsson et al. 2021); the target is mixed in the same way. Which points
count is s_p: all, those of a large softmax (FixMatch, Sohn et al. 2020), a share of them, or those
that the discriminator of Hung et al. takes for a truth, which asks whether a discriminator adds
anything to consistency. L_adv of Hung et al. may stand beside it (`adversarial_weight`).

What the sources leave open, chosen here (settings of `consistency`):
  * labelled images are changed like the strong view, in the method and in its control
    (`adversarial_stage.augmentation`), and are not cut and mixed.
  * the target is the teacher's class (`soft_targets` False), and the term is divided by all points
    of the unlabelled images (`normaliser`), so that few selected points weigh little.
  * the teacher's statistics of batch norm follow as its weights do; it predicts in inference mode.
  * the weight rises over the first tenth of the steps (`ramp_up`).
  * the discriminator judges the teacher's predictions of the plain views. It learns from the
    student's of labelled images, as Hung et al. have it, or from the teacher's of their plain views
    (`discriminator_fakes`). Where it neither selects nor is asked for by L_adv, there is none.
  * L_adv of unlabelled images is of their strong views, as all that the student sees of them: with
    the borders of boxes, which no truth has (`unlabelled_adversarial_weight` 0 leaves it out).
  * boxes are of UniMatch's kind (data/augmentation/cutmix.py), smaller than those of French et al.
  * ClassMix mixes images that were changed each by itself; the paper changes the mixed one.
  * the student is what the run keeps and scores; the teacher lies beside it, as checkpoints/<last|
    best>/teacher, and can be evaluated and exported by that path.
"""
import tensorflow as tf

from tf_advseg.data.augmentation import classmix
from tf_advseg.losses import self_taught
from tf_advseg.losses import two_views
from tf_advseg.methods import step_parts
from tf_advseg.methods.hung import hung
from tf_advseg.methods.hung import map_points
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import teacher as teachers


class Consistency(hung.Hung):
    """Student, teacher and, where the settings want one, a discriminator, moved by one step.

    Args:
      segmentor: the student, see `step_parts.Method`.
      teacher: `networks.twin` of it.
      discriminator, optimizer, discriminator_optimizer, encoding, steps: see `hung.Hung`;
        discriminator None where the settings want none.
      settings: `consistency_settings.Settings`.
    """

    def __init__(self, segmentor, teacher, discriminator, optimizer, discriminator_optimizer,
                 encoding, settings, steps):
        super().__init__(segmentor, discriminator, optimizer, discriminator_optimizer, encoding,
                         settings.of_hung, steps, 'consistency')
        self.consistency = settings
        self.teacher = teachers.MeanTeacher(teacher, segmentor, settings.decay)

    @property
    def phases(self):
        """dict: the joint step without and with unlabelled images."""
        return {hung.SUPERVISED: self.supervised_step, hung.SEMI: self.semi_supervised_step}

    @property
    def batch_needs(self):
        """See `step_parts.BatchNeeds`."""
        return step_parts.BatchNeeds(
            unlabelled_batch_size=self.consistency.unlabelled_batch_size,
            two_views=self.consistency.two_views)

    @property
    def compares_gradients(self):
        """bool: whether there is an adversarial gradient beside CE's."""
        return self.consistency.adversarial

    @property
    def state(self):
        """See `step_parts.Method.state`."""
        return {**super().state, 'teacher': self.teacher.network}

    @property
    def identity(self):
        """See `objective.Objective.identity`."""
        return {**super().identity, 'consistency': self.consistency.identity}

    @property
    def about(self):
        """See `objective.Objective.about`."""
        return self.consistency.about()

    def example_fields(self, batch):
        """See `step_parts.Method.example_fields`: two views, a box in every unlabelled image."""
        image = tf.convert_to_tensor(batch['image'])
        boxes = tf.zeros(image.shape[:3], tf.bool).numpy()
        boxes[~batch['labeled'], :image.shape[1] // 2] = True
        size = len(boxes)
        return {'plain': (image * 0.9).numpy(), 'plain_valid': batch['valid'], 'cut': boxes,
                'next': tf.roll(tf.range(size), -1, 0).numpy()}

    # --- the teacher's targets ------------------------------------------------------------

    def targets(self, batch, grid, seed):
        """What the student is asked for on this replica's rows.

        Args:
          batch: a replica's share of a batch with two views (data/mixed.py).
          grid: the student's logits at the points, float32 [b, h', w', C]: for the size.
          seed: int32 [2], of points that are drawn.

        Returns:
          (the teacher's logits, cut and mixed as the images are, float32 [b, h', w', C]; bool
          [b, h', w'], which points are selected): constant, and False in labelled rows.
        """
        rows, count = _unlabelled_rows(batch)
        logits, chosen = self.taught(tf.gather(batch['plain'], rows),
                                     tf.gather(batch['plain_valid'], rows), seed,
                                     batch.get('taught'))
        size = tf.shape(batch['label'])[0]
        own = _in_rows(logits, rows, count, size)
        chosen = _in_rows(tf.cast(chosen, tf.float32), rows, count, size)
        if self.consistency.cutmix or self.consistency.classmix:
            box = map_points.points_of(batch['cut'], grid)
            other, others_chosen = (tf.gather(_of_all_replicas(part), batch['next'])
                                    for part in (own, chosen))
            chosen = tf.where(box, others_chosen, chosen)
            own, other = (map_points.on_grid(part, tf.shape(batch['label'])[1:3], self.map_stride)
                          for part in (own, other))
            return tf.where(box[..., None], other, own), chosen > 0
        return map_points.on_grid(own, tf.shape(batch['label'])[1:3], self.map_stride), chosen > 0

    def taught(self, plain, valid, seed, logits=None):
        """What the teacher says of plain views, and where it is believed; constant.

        Args:
          plain: float32 [n, h, w, 3].
          valid: bool [n, h, w], which pixels are no padding.
          seed: int32 [2], of points that are drawn; replicas draw points of their own.
          logits: its logits of them where they are known, else None.

        Returns:
          (its logits float32 [n, h'', w'', C] as it gives them; bool [n, h', w'], the selected
          points).
        """
        given = self.consistency
        if logits is None:
            logits = self._teachers_logits(plain)
        points = map_points.on_grid(logits, tf.shape(valid)[1:3], self.map_stride)
        chosen = every = map_points.points_of(valid, points)
        if 'softmax' in given.selection.split('+'):
            chosen = self_taught.selected_by_softmax(points, chosen, given.threshold)
        if given.selection == 'share':
            chosen = self_taught.selected_share(points, chosen, given.share)
        if given.selection == 'share_of_classes':
            chosen = self_taught.selected_share_of_classes(points, chosen, given.share)
        if given.selection == 'random':
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            chosen = self_taught.selected_at_random(
                chosen, given.share, tf.random.experimental.stateless_fold_in(seed, 3 + replica))
        if given.by_discriminator:
            found = self._taken_for_truth(plain, every, valid, logits)
            if given.selection == 'as_many_by_softmax':
                found = self_taught.selected_surest(points, every, self_taught.counts(found))
            chosen = tf.logical_and(chosen, found)
        return logits, tf.stop_gradient(chosen)

    def _taken_for_truth(self, plain, points, valid, logits):
        """bool [n, h', w']: the points at which the discriminator believes the teacher."""
        given = self.consistency
        judged = self.discriminator(self._maps_of(plain, valid, logits), training=False)
        if given.discriminator_share is not None:
            return self_taught.selected_share_by_discriminator(judged, points,
                                                               given.discriminator_share)
        return self_taught.selected_by_discriminator(judged, points, given.discriminator_threshold)

    def _teachers_logits(self, plain):
        return tf.stop_gradient(segmentors.apply(self.teacher.network, plain, training=False))

    def with_classes_mixed(self, batch, seed):
        """A batch whose unlabelled images have classes of the next one in them (ClassMix).

        Args:
          batch: a replica's share of a batch with two views in which nothing is cut.
          seed: int32 [2], of the step; replicas draw alike.

        Returns:
          dict: the batch with 'image', 'valid' and 'cut' as CutMix would have them, and 'taught',
          the teacher's logits of this replica's unlabelled rows.
        """
        mix, size = self.consistency.two_views, tf.shape(batch['label'])
        rows, count = _unlabelled_rows(batch)
        logits = self._teachers_logits(tf.gather(batch['plain'], rows))
        named = tf.argmax(map_points.on_grid(logits, size[1:3], 1), -1, output_type=tf.int32)
        valid = tf.logical_and(batch['plain_valid'],
                               tf.logical_not(batch['labeled'])[:, None, None])
        # Of the next row, on whichever replica it is: its pixels, classes, and which of them count.
        own = tf.concat([batch['image'], _in_rows(tf.cast(named, tf.float32), rows, count,
                                                  size[0])[..., None],
                         tf.cast(valid, tf.float32)[..., None]], -1)
        everyones = _of_all_replicas(own)
        following = tf.gather(everyones, batch['next'])
        classes, counted = (tf.cast(part[..., 3], tf.int32) for part in (everyones, following))
        chosen = mix.drawn(classmix.present_classes(
            classes, everyones[..., 4] > 0, self.segmentor.num_classes), seed)
        cut = classmix.pixels_of(tf.gather(chosen, batch['next']), counted, following[..., 4] > 0)
        return {**batch, 'cut': cut, 'valid': tf.logical_or(batch['valid'], cut), 'taught': logits,
                'image': tf.where(cut[..., None], following[..., :3], batch['image'])}

    def _maps_of(self, image, valid, logits):
        """What the discriminator sees of predictions, zero where `valid` is False."""
        return self.fake_maps({'image': image, 'valid': valid,
                               'label': tf.zeros(tf.shape(valid), tf.int32)}, logits)

    def shown_maps(self, batch, logits):
        """See `step_parts.Method.shown_maps`; None where there is no discriminator."""
        return None if self.discriminator is None else super().shown_maps(batch, logits)

    def _judged(self, batch, grid, fake, labelled, others, logged):
        if self.consistency.discriminator_fakes == 'teacher' and 'plain' in batch:
            logits = tf.stop_gradient(segmentors.apply(self.teacher.network, batch['plain'],
                                                       training=False))
            fake = self.discriminator(self._maps_of(batch['plain'], batch['plain_valid'], logits),
                                      training=True)
        return super()._judged(batch, grid, fake, labelled, others, logged)

    def _adversarial_terms(self, *arguments):
        return super()._adversarial_terms(*arguments) if self.consistency.adversarial else {}

    # --- the step -------------------------------------------------------------------------

    def semi_supervised_step(self, batch, seed):
        """One step on labelled and unlabelled images.

        Args:
          batch: a replica's share of a batch with two views, see data/mixed.py.
          seed: int32 [2], for dropout.

        Returns:
          what `hung.Hung.supervised_step` has, with 'loss/consistency' (unweighted),
          'consistency/selected' (a share of the unlabelled points), 'consistency/agreement' (the
          share of the selected ones where student and teacher name one class) and
          'consistency/weight'.
        """
        if self.consistency.classmix:
            batch = self.with_classes_mixed(batch, seed)
        return self._step(batch, seed, self.discriminator is not None, True)

    def _step(self, batch, seed, unlabelled, self_taught_too):
        done = self.optimizer.iterations
        scalars = super()._step(batch, seed, unlabelled, self_taught_too)
        self.teacher.follow(done - 1)  # the update has counted
        return scalars

    def _joint_terms(self, batch, logits, seed, unlabelled, self_taught_too):
        found, logged, move = super()._joint_terms(batch, logits, seed, unlabelled, False)
        if not self_taught_too:
            return found, logged, move
        grid, _, others = self.points(batch, logits)
        targets, chosen = self.targets(batch, grid, seed)
        chosen = tf.logical_and(chosen, others)
        sums, counts = two_views.cross_entropy(grid, targets, tf.cast(chosen, tf.float32),
                                               self.consistency.soft_targets)
        count = step_parts.global_sum(tf.reduce_sum(counts))
        total = step_parts.global_sum(tf.reduce_sum(tf.cast(others, tf.float32)))
        by = {'all': total, 'selected': count}[self.consistency.normaliser]
        if self.consistency.reduction == 'sum':
            by = 1.0
        start, rise = (self.consistency.in_steps(name, self.steps) for name in ('start', 'ramp_up'))
        weight = self.consistency.weight * two_views.ramp_up(
            self.optimizer.iterations - start, rise)
        found['consistency'] = weight, tf.math.divide_no_nan(tf.reduce_sum(sums), by)
        agree = tf.logical_and(chosen, tf.argmax(grid, -1) == tf.argmax(targets, -1))
        logged.update({
            'consistency/selected': step_parts.share(tf.math.divide_no_nan(count, total)),
            'consistency/agreement': tf.math.divide_no_nan(
                tf.reduce_sum(tf.cast(agree, tf.float32)), count),
            'consistency/weight': step_parts.share(weight)})
        return found, logged, move


def _unlabelled_rows(batch):
    """(int64 [n]: this replica's rows without labels, one where there is none, as convolutions need
    an image; int: how many there are)."""
    rows = tf.where(tf.logical_not(batch['labeled']))[:, 0]
    count = tf.shape(rows)[0]
    return tf.concat([rows, tf.zeros([1], rows.dtype)], 0)[:tf.maximum(count, 1)], count


def _in_rows(values, rows, count, size):
    """float32 [size, ...]: the first `count` values in their rows of the batch, 0 elsewhere."""
    shape = tf.concat([[size], tf.shape(values)[1:]], 0)
    return tf.scatter_nd(tf.cast(rows[:count, None], tf.int32), values[:count], shape)


def _of_all_replicas(values):
    """[B, ...]: the replicas' rows one after another, as the global batch had them."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    return context.all_gather(values, axis=0)
