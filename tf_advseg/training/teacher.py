"""A network that follows another: the mean teacher (Tarvainen and Valpola 2017).

Its weights are an exponential moving average of the student's. It is a network of its own, run
inside the student's step, where `averaging.WeightAverage` is looked at between steps alone.
"""
import tensorflow as tf


class MeanTeacher:
    """Moves a network after another, inside a step.

    Weights: theta' <- d theta' + (1 - d) theta, with d = min(decay, 1 - 1 / (t + 1)) at step t from
    0, so that the first steps are a plain mean and no step weighs the start more than that
    (the published code of the paper). Statistics of batch norm follow in the same way where
    training moves them: the teacher predicts with the average of its student's. Where they are
    frozen, they are the student's.

    Args:
      network: the teacher, `networks.twin` of the student; no optimizer has it.
      student: the network it follows; both are built in the strategy's scope.
      decay: d, from 0 to below 1.

    Raises:
      ValueError: the networks' variables differ in number or shape.
    """

    def __init__(self, network, student, decay):
        self.network, self.decay = network, float(decay)
        trained = {id(v) for v in student.trainable_variables}
        shapes = [[tuple(v.shape) for v in one.variables] for one in (network, student)]
        if shapes[0] != shapes[1]:
            raise ValueError(f'{network.name} has other variables than {student.name}')
        pairs = list(zip(network.variables, student.variables))
        self._weights = [pair for pair in pairs if id(pair[1]) in trained]
        self._statistics = [pair for pair in pairs if id(pair[1]) not in trained
                            and pair[1].dtype.is_floating]

    def follow(self, step):
        """Takes in the student as it is now; call it in a replica's step, after the update.

        Args:
          step: integer scalar, the student's steps before this one.
        """
        rate = 1.0 - tf.minimum(self.decay, 1.0 - 1.0 / (tf.cast(step, tf.float32) + 1.0))
        ours, theirs = zip(*self._weights)
        tf.distribute.get_replica_context().merge_call(
            _follow, args=(rate, *ours, *theirs))
        # Each replica has its own. Ours are the same on all; those of a Keras batch norm are not.
        for mine, its in self._statistics:
            mine.assign_add((_mean(its) - mine) * rate)


def _mean(variable):
    """A statistic as it is, or its mean over the replicas."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return variable.read_value()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, variable.read_value())


def _follow(strategy, rate, *variables):
    """Cross-replica: the first half of the variables follows the second."""
    half = len(variables) // 2
    for ours, theirs in zip(variables[:half], variables[half:]):
        strategy.extended.update(ours, _moved, args=(theirs, rate))


def _moved(ours, theirs, rate):
    ours.assign_add((theirs - ours) * rate)
