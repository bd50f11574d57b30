"""How a scene of the data set `shapes` is drawn (readers/shapes.py says what it is for).

Painter's algorithm on three arrays: image, label, instance. Masks are compared coordinates, so
that no drawing library's antialiasing enters. Lengths are in pixels of an image 97 high.
"""
import numpy as np

CLASS_NAMES = ('sky', 'ground', 'water', 'building', 'window', 'tree', 'vehicle', 'pole')
SKY, GROUND, WATER, BUILDING, WINDOW, TREE, VEHICLE, POLE = range(8)
IGNORE = 255
PALETTE = ((135, 190, 235), (150, 160, 80), (50, 90, 190), (180, 80, 60), (240, 210, 90),
           (40, 130, 60), (200, 60, 180), (110, 70, 50))

# Colours a class has of its own, and the pool that all of them share.
_OWN = {
    'sky': ((150, 190, 230), (185, 205, 225), (230, 200, 175), (165, 175, 200)),
    'grass': ((105, 140, 70), (135, 150, 80), (160, 145, 100)),
    'road': ((120, 118, 115), (150, 140, 125), (95, 95, 100)),
    'water': ((90, 130, 162), (108, 138, 150), (68, 100, 118)),
    'wall': ((205, 190, 165), (170, 95, 75), (190, 190, 190), (220, 215, 200)),
    'roof': ((140, 70, 55), (90, 85, 90), (120, 95, 70)),
    'pane': ((70, 85, 105), (160, 190, 215), (50, 50, 60)),
    'crown': ((60, 100, 50), (85, 120, 55), (130, 120, 50), (50, 85, 60)),
    'wood': ((90, 65, 45), (110, 90, 70), (75, 70, 65)),
    'car': ((180, 45, 45), (55, 80, 150), (200, 200, 205), (60, 60, 65)),
    'hull': ((190, 60, 50), (230, 230, 225), (80, 65, 55)),
}
_SHARED = ((205, 200, 190), (150, 150, 150), (165, 140, 110), (150, 100, 75), (95, 120, 75),
           (110, 140, 160), (80, 80, 85))


class _Canvas:
    """An image, its labels and its instances under the painter's algorithm."""

    def __init__(self, height, width, uniform, overlap, texture):
        self.height, self.width = height, width
        self.scale = height / 97.0
        self.image = np.zeros((height, width, 3))
        self.label = np.zeros((height, width), np.uint8)
        self.instance = np.zeros((height, width), np.int32)
        self.random = uniform
        self.overlap, self.texture = overlap, texture
        self.y, self.x = np.mgrid[:height, :width].astype(np.float64) + 0.5
        self.instances = 0
        grain = uniform((height, width)) - 0.5
        across = (grain[:, :1] + _spread(uniform, height, width, 1, 6)) * 0.8
        down = (grain[:1, :] + _spread(uniform, height, width, 6, 1)) * 0.8
        self.textures = {'grain': grain, 'across': across, 'down': down,
                         'blots': _spread(uniform, height, width, 7, 7) * 1.4,
                         'flat': grain * 0.25}

    def between(self, low, high):
        """A uniform number in [low, high)."""
        return low + (high - low) * float(self.random())

    def chance(self, probability):
        return float(self.random()) < probability

    def pick(self, choices):
        return choices[int(float(self.random()) * len(choices))]

    def colour(self, kind):
        """A colour of this kind of surface, or one that every surface may have."""
        base = self.pick(_SHARED if self.chance(self.overlap) else _OWN[kind])
        return np.array([c + self.between(-14, 14) for c in base])

    def new_instance(self):
        self.instances += 1
        return self.instances

    def _window(self, x0, y0, x1, y1):
        rows = slice(max(0, int(y0) - 1), min(self.height, max(0, int(y1) + 2)))
        columns = slice(max(0, int(x0) - 1), min(self.width, max(0, int(x1) + 2)))
        return rows, columns

    def paint(self, window, mask, colour, texture, label, instance, shade=0.0):
        """Paints a mask of a window; `shade` darkens it towards its right edge."""
        texture = self.textures[texture][window][mask]
        value = colour + (texture * 46.0 * self.texture)[:, None]
        if shade:
            x = self.x[window][mask]
            value -= (shade * (x - x.min()) / (x.max() - x.min() + 1.0))[:, None] \
                if x.size else 0.0
        self.image[window][mask] = value
        self.label[window][mask] = label
        self.instance[window][mask] = instance

    def rectangle(self, x0, y0, x1, y1, *look, **more):
        window = self._window(x0, y0, x1, y1)
        y, x = self.y[window], self.x[window]
        self.paint(window, (x >= x0) & (x < x1) & (y >= y0) & (y < y1), *look, **more)

    def polygon(self, points, *look, **more):
        """A convex polygon, its points in clockwise order on the screen."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        window = self._window(min(xs), min(ys), max(xs), max(ys))
        y, x = self.y[window], self.x[window]
        mask = np.ones(y.shape, bool)
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
            mask &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
        self.paint(window, mask, *look, **more)

    def ellipse(self, cx, cy, rx, ry, *look, ragged=0.0, **more):
        grow = 1.0 + ragged
        window = self._window(cx - rx * grow, cy - ry * grow, cx + rx * grow, cy + ry * grow)
        dx, dy = (self.x[window] - cx) / rx, (self.y[window] - cy) / ry
        edge = 1.0 + ragged * 2.0 * self.textures['blots'][window]
        self.paint(window, dx * dx + dy * dy <= edge, *look, **more)


def _spread(uniform, height, width, cells_y, cells_x):
    """Bilinear noise in [-0.5, 0.5) of about cells_y x cells_x bumps, [height, width]."""
    field = uniform((cells_y + 1, cells_x + 1)) - 0.5

    def along(field, cells, length):
        position = np.arange(length) * (cells / length)
        left = position.astype(np.int64)
        part = (position - left)[:, None]
        return field[left] * (1.0 - part) + field[left + 1] * part
    rows = along(field, cells_y, height)
    return along(np.ascontiguousarray(rows.T), cells_x, width).T


def _background(canvas):
    """Sky with clouds, hilly ground with a road, in most scenes water.

    Returns the horizon (row), the hills' outline [W] (row) and the water's mask [H, W] or None.
    """
    c, s = canvas, canvas.scale
    everything = (slice(None), slice(None))
    horizon = c.height * c.between(0.32, 0.52)
    sky, ground, water = c.new_instance(), c.new_instance(), c.new_instance()
    c.paint(everything, np.ones((c.height, c.width), bool), c.colour('sky'), 'flat', SKY, sky)
    c.image += ((c.y - horizon) * c.between(-0.3, 0.6))[..., None]
    for _ in range(int(c.between(0, 4))):
        c.ellipse(c.between(0, c.width), c.between(0, horizon), c.between(8, 20) * s,
                  c.between(3, 6) * s, c.colour('wall') * 0.5 + c.between(70, 120), 'blots', SKY,
                  sky, ragged=0.5)
    hills = horizon + c.between(4, 22) * s * _spread(c.random, 1, c.width, 1, 4)
    c.paint(everything, c.y >= hills, c.colour('grass'), c.pick(('grain', 'blots')), GROUND,
            ground)
    kind = float(c.random())
    if kind < 0.3:      # a lake or the sea from the horizon down to a shore
        shore = horizon + c.between(14, 26) * s + \
            c.between(4, 16) * s * _spread(c.random, 1, c.width, 1, 3)
        mask = (c.y >= horizon + 2 * s) & (c.y < shore)
    elif kind < 0.65:   # a bay in a lower corner
        side = c.pick((0.0, float(c.width)))
        dx = (c.x - side) / (c.between(0.5, 0.95) * c.width)
        dy = (c.y - c.height) / (c.height - horizon) / c.between(0.5, 0.85)
        mask = (dx * dx + dy * dy <= 1.0 + c.textures['blots'] * 0.3) & (c.y >= hills)
    else:
        mask = None
    if c.chance(0.6):   # a road towards the horizon, ground like the grass beside it
        middle, foot, wide = c.between(0.2, 0.8), c.between(0.1, 0.9), c.between(14, 30) * s
        depth = (c.y - horizon) / (c.height - horizon)
        centre = (middle + (foot - middle) * depth) * c.width
        road = (abs(c.x - centre) < wide * (0.1 + depth)) & (c.y >= hills)
        c.paint(everything, road, c.colour('road'), 'flat', GROUND, ground)
    if mask is not None:
        c.paint(everything, mask, c.colour('water'), 'across', WATER, water)
    return horizon, hills[0], mask


def _building(c, x, base, k):
    """A house with a gable roof, or a block with a flat one; panes are `window`."""
    block = c.chance(0.35)
    instance = c.new_instance()
    half = (c.between(9, 13) if block else c.between(16, 23)) * k
    high = (c.between(36, 52) if block else c.between(18, 26)) * k
    wall = c.colour('wall')
    look = (BUILDING, instance)
    c.rectangle(x - half, base - high, x + half, base, wall, c.pick(('flat', 'across', 'grain')),
                *look, shade=c.between(0, 40))
    if not block:
        roof, rise, eave = c.colour('roof'), c.between(9, 16) * k, c.between(0, 4) * k
        inset = c.pick((0.0, half * 0.5, half - k))
        c.polygon([(x - half - eave, base - high), (x - half + inset, base - high - rise),
                   (x + half - inset, base - high - rise), (x + half + eave, base - high)],
                  roof, c.pick(('across', 'flat')), *look)
        if c.chance(0.5):
            c.rectangle(x + half * 0.3, base - high - rise - 5 * k, x + half * 0.3 + 5 * k,
                        base - high - rise * 0.3, roof, 'grain', *look)
    pane, size = c.colour('pane'), c.between(7.0, 9.5) * k
    columns, rows = (2, 3) if block else (c.pick((2, 3)), 1)
    door = -1 if block else int(c.between(0, columns))
    for column in range(columns):
        middle = x - half + (column + 0.5) * 2 * half / columns
        if column == door:
            c.rectangle(middle - size * 0.4, base - size * 1.7, middle + size * 0.4, base,
                        c.colour('wood'), 'flat', *look)
            continue
        for row in range(rows):
            top = base - high + high * (row + 0.2) / rows
            c.rectangle(middle - size * 0.5, top, middle + size * 0.5,
                        top + min(size * 1.2, high * 0.7 / rows), pane, 'flat', WINDOW, instance)


def _tree(c, x, base, k):
    """A trunk (which alone would be a pole) under a round or a pointed crown."""
    instance = c.new_instance()
    crown, trunk = c.colour('crown'), c.between(8, 16) * k
    c.rectangle(x - 1.5 * k, base - trunk - 4 * k, x + 1.5 * k, base, c.colour('wood'), 'down',
                TREE, instance)
    if c.chance(0.3):
        half, high = c.between(8, 12) * k, c.between(24, 36) * k
        for part in range(3):
            low = base - trunk - high * part * 0.25
            width = half * (1.0 - 0.25 * part)
            c.polygon([(x - width, low), (x, low - high * 0.5), (x + width, low)],
                      crown - 8.0 * part, 'grain', TREE, instance)
        return
    radius = c.between(8, 13) * k
    for part in range(3):
        c.ellipse(x + c.between(-0.6, 0.6) * radius, base - trunk - c.between(0.4, 1.1) * radius,
                  radius * c.between(0.75, 1.1), radius * c.between(0.65, 1.0),
                  crown + c.between(-16, 16), 'grain', TREE, instance, ragged=0.35)


def _car(c, x, base, k):
    """Body, cabin, two wheels; the panes look like a house's and belong to the car."""
    instance = c.new_instance()
    look = (VEHICLE, instance)
    half, body, cabin = c.between(15, 20) * k, c.between(7, 9) * k, c.between(7, 9) * k
    paint, foot = c.colour('car'), base - 2.5 * k
    front, back = c.between(0.2, 0.5) * half, c.between(0.6, 0.95) * half
    c.rectangle(x - half, foot - body, x + half, foot, paint, 'flat', *look)
    c.polygon([(x - back, foot - body + 1), (x - back * 0.75, foot - body - cabin),
               (x + front * 0.6, foot - body - cabin), (x + front + 3 * k, foot - body + 1)],
              paint, 'flat', *look)
    pane = c.colour('pane')
    for left, right in ((-back * 0.7, -1.2 * k), (1.2 * k, front * 0.8)):
        c.rectangle(x + left, foot - body - cabin * 0.8, x + right, foot - body, pane, 'flat',
                    *look)
    for side in (-0.6, 0.6):
        c.ellipse(x + side * half, base - 3.6 * k, 3.8 * k, 3.8 * k, np.array([38.0, 37, 40]),
                  'flat', *look)


def _boat(c, x, base, k):
    """A hull with a sail (white as a cloud) or a cabin (as a house's wall)."""
    instance = c.new_instance()
    look = (VEHICLE, instance)
    half, hull = c.between(13, 18) * k, c.between(6, 8) * k
    if c.chance(0.6):
        high = c.between(22, 32) * k
        c.rectangle(x - k, base - hull - high, x + k, base - hull, c.colour('wood'), 'flat', *look)
        c.polygon([(x + k, base - hull - 2 * k), (x + k, base - hull - high),
                   (x + half * 0.9, base - hull - 2 * k)], c.colour('wall'), 'flat', *look)
    else:
        c.rectangle(x - half * 0.5, base - hull - 8 * k, x + half * 0.3, base - hull,
                    c.colour('wall'), 'flat', *look)
        c.rectangle(x - half * 0.3, base - hull - 6 * k, x, base - hull - 2 * k,
                    c.colour('pane'), 'flat', *look)
    c.polygon([(x - half, base - hull), (x + half, base - hull), (x + half * 0.7, base),
               (x - half * 0.7, base)], c.colour('hull'), 'flat', *look)


def _power_line(c, x, base, k):
    """Two or three poles with crossarms, and wires that sag from one to the next."""
    instance, wood = -c.new_instance(), c.colour('wood')
    step, high = c.between(28, 42) * k, c.between(40, 54) * k
    rise = c.between(-0.15, 0.15)
    tops = []
    for number in range(-1, 3):
        px, foot = x + number * step, base + number * step * rise
        size = high * (1.0 + number * rise)
        if 0 <= px < c.width:
            c.rectangle(px - 1.7 * k, foot - size, px + 1.7 * k, foot, wood, 'down', POLE,
                        instance)
            c.rectangle(px - 6 * k, foot - size + 3 * k, px + 6 * k, foot - size + 5 * k, wood,
                        'flat', POLE, instance)
        tops.append((px, foot - size + 3 * k))
    wire = wood * 0.6
    for (ax, ay), (bx, by) in zip(tops, tops[1:]):
        window = c._window(ax, min(ay, by), bx, max(ay, by) + 8 * k)
        t = (c.x[window] - ax) / (bx - ax)
        sag = ay + (by - ay) * t + 4 * 6 * k * t * (1.0 - t)
        mask = (t >= 0) & (t <= 1) & (abs(c.y[window] - sag) < 1.1)
        c.paint(window, mask, wire, 'flat', POLE, instance)


def _fence(c, x, base, k):
    """Posts and two rails; what is behind shows through."""
    instance, wood = -c.new_instance(), c.colour('wood')
    half, high, gap = c.between(20, 45) * k, c.between(9, 13) * k, c.between(7, 10) * k
    for number in range(int(2 * half / gap) + 1):
        px = x - half + number * gap
        c.rectangle(px - 1.5 * k, base - high, px + 1.5 * k, base, wood, 'down', POLE, instance)
    for level in (0.3, 0.75):
        y = base - high * level
        c.rectangle(x - half, y - 1.3 * k, x + half, y + 1.3 * k, wood, 'flat', POLE, instance)


_ON_GROUND = ((_building, 0.34), (_tree, 0.30), (_car, 0.14), (_fence, 0.10),
              (_power_line, 0.12))


def _objects(c, horizon, hills, water, clutter):
    """Places things far to near, each where it can stand; at most one power line."""
    places = []
    for _ in range(int(c.between(3.0, 7.0) * clutter + 0.5)):
        x = c.between(0.02, 0.98) * c.width
        top = max(horizon, float(hills[int(x)])) + 3 * c.scale
        places.append((top + max(0.0, c.height - 3 - top) * c.between(0, 1), x))
    lines = 0
    for base, x in sorted(places):
        k = c.scale * (1.0 + 0.45 * (base - horizon) / (c.height - horizon))
        roll = float(c.random())
        if water is not None and water[min(c.height - 1, int(base)), int(x)]:
            if roll < 0.75:
                _boat(c, x, base, k)
            continue
        for thing, share in _ON_GROUND:
            if roll < share:
                lines += thing is _power_line
                if thing is not _power_line or lines == 1:
                    thing(c, x, base, k)
                break
            roll -= share


def _ignore_borders(label, instance, width):
    """255 where two instances meet and one is a solid object (thin ones, < 0, have no border)."""
    stuff = 3
    border = np.zeros(label.shape, bool)
    for axis in (0, 1):
        a = instance if axis else instance.T
        mine, other = a[:, 1:], a[:, :-1]
        edge = (mine != other) & ((mine > stuff) | (other > stuff)) & (mine > 0) & (other > 0)
        mark = border if axis else border.T
        mark[:, 1:] |= edge
        if width > 1:
            mark[:, :-1] |= edge
    label[border & (instance > 0)] = IGNORE


def draw_scene(height, width, uniform, noise=0.5, overlap=0.08, clutter=1.0, ignore_border=1):
    """Draws one scene: (image uint8 [height, width, 3], label uint8 [height, width]).

    `uniform(shape=None)` gives doubles in [0, 1). `noise` scales grain, texture and uneven light
    (0 = clean), `overlap` in [0, 1] is the share of surfaces whose colour says nothing of their
    class, `clutter` scales the number of objects, `ignore_border` is the width in pixels (0-2)
    of the unlabelled line around solid objects.
    """
    canvas = _Canvas(height, width, uniform, overlap, texture=noise)
    _objects(canvas, *_background(canvas), clutter)
    if ignore_border:
        _ignore_borders(canvas.label, canvas.instance, ignore_border)
    image = canvas.image
    light = 1.0 + noise * (canvas.between(-0.35, 0.35) * (canvas.x / width - 0.5)
                           + canvas.between(-0.3, 0.3) * (canvas.y / height - 0.5))
    tint = np.array([canvas.between(1.0 - 0.15 * noise, 1.0 + 0.15 * noise) for _ in range(3)])
    image = image * light[..., None] * tint
    for axis in (0, 1):     # the blur of a lens: edges and thin things mix with what is behind
        wide = image if axis else image.transpose(1, 0, 2)
        wide = np.concatenate([wide[:, :1], wide, wide[:, -1:]], axis=1)
        wide = wide[:, :-2] * 0.2 + wide[:, 1:-1] * 0.6 + wide[:, 2:] * 0.2
        image = wide if axis else wide.transpose(1, 0, 2)
    grain = uniform((height, width, 3)) + uniform((height, width, 3)) - 1.0
    image = image + grain * (22.0 * noise)
    return np.clip(image + 0.5, 0.0, 255.0).astype(np.uint8), canvas.label
