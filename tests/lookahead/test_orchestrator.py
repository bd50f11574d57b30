"""The orchestrator with its control's parts: losses that are no number, rewinds, caps."""
import itertools
import json
import math
import types

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import journal
from tf_advseg.core import random_streams
from tf_advseg.evaluation import metrics
from tf_advseg.lookahead import controller
from tf_advseg.lookahead import orchestrator
from tf_advseg.lookahead import settings
from tf_advseg.lookahead import snapshots
from tf_advseg.methods import recipe
from tf_advseg.models import precision
from tf_advseg.training import averaging
from tf_advseg.training import loss_scale


class Script:
    """Stands for evaluator and data: mIoUs as told, one weight that every step raises by 1."""

    train_ids, known = ['a', 'b'], None

    def __init__(self, mious):
        self.mious = list(mious)

    def run(self):
        """A confusion matrix of two classes whose mean IoU is the next of the script."""
        miou = self.mious.pop(0)
        # IoU of both classes is p / (2 - p) where p is the share of right pixels.
        right = 2 * miou / (1 + miou)
        wrong = round(1e9 * (1 - right))
        return np.array([[10 ** 9 - wrong, wrong], [wrong, 10 ** 9 - wrong]])


def build(tmp_path, mious, steps=None, fate='restore', rate=1.0, **caps):
    """A LookAhead in control mode whose propagation adds 1 to a weight and to the momentum."""
    network = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    network.layers[0].kernel.assign([[0.0]])
    optimizer = tf.keras.optimizers.SGD(rate, momentum=0.5, jit_compile=False)
    loss_scale.prepare(precision.Precision(precision.FLOAT16, loss_scale=64.0), optimizer)
    optimizer.build(network.trainable_variables)
    method = types.SimpleNamespace(segmentor=network, optimizer=optimizer, phases={})
    script = Script(mious)
    tmp_path.mkdir(exist_ok=True)
    arguments = {'beta_u': 0.001, 'beta_l': 0.2, 'patience': 2, 'max_cycles': 2, **caps}
    loop = orchestrator.LookAhead(
        recipe.Arm.CONTROL, method, script, controller.Controller(**arguments), None,
        snapshots.SnapshotStore(tmp_path / 'snapshots'),
        settings.LookaheadSettings(optimizer_at_rewind=fate, non_finite_limit=1, durable_every=1),
        lambda: float(metrics.mean_iou(script.run())), tmp_path,
        journal.Journal(tmp_path / 'journal.jsonl'), journal.Journal(tmp_path / 'metrics.jsonl'),
        random_streams.RandomStreams(0), tf.distribute.get_strategy())
    losses = iter(steps or [])
    seen = []

    def propagate():
        seen.append((float(network.layers[0].kernel[0, 0]), int(optimizer.iterations),
                     loop.state.budget_step))
        optimizer.apply_gradients([(tf.constant([[-1.0]]), network.layers[0].kernel)])
        loop.state.budget_step += 1
        return {'loss/ce': next(losses, 1.0)}

    loop._propagate = propagate
    return loop, seen


def events(tmp_path):
    return [json.loads(line) for line in (tmp_path / 'journal.jsonl').read_text().splitlines()]


def test_a_rewind_takes_weights_and_iterations_back_and_the_budget_never(tmp_path):
    loop, seen = build(tmp_path, [0.5, 0.45, 0.44, 0.43, 0.42])
    result = loop.run()
    assert [budget for _, _, budget in seen] == [0, 1, 2, 3]
    assert [weight for weight, _, _ in seen] == [0.0, 1.0, 0.0, 1.0]
    assert [iterations for _, iterations, _ in seen] == [0, 1, 0, 1]
    assert result.label == 'g0' and result.propagations == 4


def test_the_cycle_after_a_peak_starts_from_the_peak(tmp_path):
    loop, seen = build(tmp_path, [0.5, 0.6, 0.55, 0.5, 0.5, 0.5, 0.5])
    result = loop.run()
    assert result.label == 'g1' and result.miou == pytest.approx(0.6)
    # g1 is the model after the first step (weight 1); both later cycles begin there.
    assert [weight for weight, _, _ in seen] == [0.0, 1.0, 1.0, 2.5, 1.0, 2.5]
    assert float(loop.method.segmentor.layers[0].kernel[0, 0]) == 1.0
    kinds = [event['event'] for event in events(tmp_path)]
    assert kinds.count('peak') == 1 and kinds.count('rewind') == 3


@pytest.mark.parametrize('fate, second', [('restore', 0), ('reset', 0), ('keep', 2)])
def test_the_optimizers_fate_at_a_rewind(tmp_path, fate, second):
    loop, seen = build(tmp_path, [0.5, 0.45, 0.44, 0.43, 0.42], fate=fate)
    loop.run()
    assert seen[2][1] == second
    # With its momentum kept the third step goes further than the first did.
    moved = seen[3][0] - seen[2][0]
    assert moved == pytest.approx(1.75 if fate == 'keep' else 1.0)


def test_a_schedule_goes_on_by_the_steps_of_the_run_where_a_rewind_empties_the_optimizer(tmp_path):
    """So LoAd's rate ends where its control's does."""
    schedule = tf.keras.optimizers.schedules.PolynomialDecay(1.0, 4, 0.0)
    loop, seen = build(tmp_path, [0.5, 0.45, 0.44, 0.43, 0.42], fate='reset', rate=schedule)
    loop.run()
    assert [steps for _, steps, _ in seen] == [budget for _, _, budget in seen] == [0, 1, 2, 3]
    # The third step begins the second cycle: half of the rate is left, and no momentum.
    assert seen[3][0] - seen[2][0] == pytest.approx(0.5)


@pytest.mark.parametrize('fate', ['restore', 'reset', 'keep'])
def test_the_loss_scale_goes_the_way_of_its_optimizer_in_a_run_that_was_stopped_too(tmp_path, fate):
    """After the third step of four, the first of the second cycle, the process ends."""
    mious, found = [0.5, 0.45, 0.44, 0.43, 0.42], {}
    for name, stops in (('whole', ()), ('cut', (0, 1, 2, 3))):
        left, found[name] = list(mious), []
        for stop in (*stops, None):
            loop, _ = build(tmp_path / name, left, fate=fate)
            scale, take = loss_scale.of(loop.method.optimizer).value, loop._propagate
            began = len(found[name])

            def propagate():
                if len(found[name]) - began == 1 and stop is not None:
                    raise KeyboardInterrupt
                found[name].append(float(scale))
                scale.assign(scale / 2)
                return take()

            loop._propagate = propagate
            try:
                loop.run()
            except KeyboardInterrupt:
                pass
            left = loop.data.mious
    assert found['whole'] == found['cut'] == {'keep': [64, 32, 16, 8]}.get(fate, [64, 32, 64, 32])


def averaging_loop(tmp_path, mious, **caps):
    """`build` with an average of the weight, by the orchestrator's own propagations of one step."""
    look, _ = build(tmp_path, mious, **caps)
    kernel = look.method.segmentor.layers[0].kernel
    look.store.average = averaging.WeightAverage([kernel], 1, reading='models')
    del look._propagate  # the stand-in
    look._batches = itertools.repeat(None)

    def step(phase, batch, seed, **scalars):
        kernel.assign_add([[1.0]])
        return {'loss/ce': 1.0}

    look.stepper = step
    return look


@pytest.mark.parametrize('fate', ['restore', 'reset', 'keep'])
def test_an_average_goes_back_with_the_weights(tmp_path, fate):
    # g1 is one propagation (two images: one step) past g0, g2 two past g1.
    look = averaging_loop(tmp_path, [0.5, 0.6, 0.55, 0.5, 0.55, 0.58, 0.7, 0.6, 0.5],
                          fate=fate, max_cycles=9, max_propagations=7)
    result = look.run()
    assert result.label == 'g2' and result.miou == pytest.approx(0.7)
    weight = float(look.method.segmentor.layers[0].kernel[0, 0])
    average = look.store.average
    # Of the steps that are behind g2 alone, not of the seven that were taken.
    assert look.state.budget_step == 7 and weight == int(average.steps) == 3
    assert float(average.averages[0][0, 0]) == pytest.approx(np.mean([0, 1, 2, 3]))


def test_an_average_of_a_run_that_was_stopped_is_that_of_one_that_was_not(tmp_path):
    mious = [0.5, 0.6, 0.55, 0.5, 0.55, 0.58, 0.7, 0.6, 0.5]
    caps = dict(max_cycles=9, max_propagations=7)
    whole = averaging_loop(tmp_path / 'whole', mious, **caps)
    whole.run()
    look, done = averaging_loop(tmp_path / 'cut', mious, **caps), []
    take = look.stepper

    def step(*arguments, **scalars):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(1)
        return take(*arguments, **scalars)
    look.stepper = step
    with pytest.raises(KeyboardInterrupt):
        look.run()
    look = averaging_loop(tmp_path / 'cut', mious[len(mious) - len(look.data.mious):], **caps)
    look.run()
    for one, other in zip(look.store.average.variables, whole.store.average.variables):
        np.testing.assert_array_equal(one, other)


def test_a_loss_that_is_no_number_rewinds_and_is_counted(tmp_path):
    loop, seen = build(tmp_path, [0.5, 0.45, 0.44], steps=[math.nan, 1.0, 1.0])
    loop.run()
    assert [weight for weight, _, _ in seen] == [0.0, 0.0, 1.0]
    lines = [event for event in events(tmp_path) if event['event'] == 'nonfinite']
    assert len(lines) == 1 and lines[0]['loss/ce'] == 'nan'


def test_it_gives_up_after_the_limit_with_one_line(tmp_path):
    loop, _ = build(tmp_path, [0.5], steps=[math.inf, math.nan], max_cycles=9)
    with pytest.raises(errors.UserError, match='loss/ce=nan.*given up after 1 rewinds') as failure:
        loop.run()
    assert '\n' not in failure.value.message


def test_a_run_that_a_cap_ended_goes_on_under_a_higher_one(tmp_path):
    loop, _ = build(tmp_path, [0.5, 0.45, 0.44], max_propagations=2)
    assert loop.run().stop_reason == 'budget'
    loop, seen = build(tmp_path, [0.43, 0.42], max_propagations=4)
    result = loop.run()
    assert result.propagations == 4
    assert [(weight, budget) for weight, _, budget in seen] == [(0.0, 2), (1.0, 3)]


def test_the_cap_in_hours_ends_a_cycle_under_way(tmp_path):
    loop, seen = build(tmp_path, [0.5, 0.45, 0.44, 0.43])
    loop.settings = settings.LookaheadSettings(max_hours=0.0)
    result = loop.run()
    assert result.stop_reason == 'hours' and len(seen) == 1


@pytest.mark.parametrize('bad', [{'optimizer_at_rewind': 'restor'},
                                 {'discriminator_at_retrain': 'fresh'},
                                 {'adversarial_weight': 'balance'}, {'map_images': 'some'},
                                 {'propagation_steps': 'epochs'}])
def test_a_mistyped_setting_is_refused_with_the_nearest(bad):
    with pytest.raises(errors.UserError) as failure:
        settings.LookaheadSettings(**bad)
    assert next(iter(bad.values())) in failure.value.message
