"""Classes and colours of the data sets that the official model zoo was trained on.

Train ids are those of the official DeepLab code: what its logits' channels mean. ADE20K is here
twice: 'ade20k' are its 150 classes, 'ade20k_151' the 151 outputs of the zoo's networks.
"""
from tf_advseg.data.spec import DatasetSpec

_VOC = (
    'background,aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,diningtable,dog,horse,'
    'motorbike,person,pottedplant,sheep,sofa,train,tvmonitor')
_CITYSCAPES = (
    'road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,'
    'person,rider,car,truck,bus,train,motorcycle,bicycle')
_CITYSCAPES_CATEGORIES = (
    'flat,flat,construction,construction,construction,object,object,object,nature,nature,sky,'
    'human,human,vehicle,vehicle,vehicle,vehicle,vehicle,vehicle')
_CITYSCAPES_COLOURS = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
    (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
    (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
    (0, 80, 100), (0, 0, 230), (119, 11, 32))
# The data set's own id (labelIds) of each train id.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# Ids the data set's evaluator ignores: void, and classes too rare or not labelled as such; -1 is
# "license plate".
_CITYSCAPES_VOID = (-1, 0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
# SceneParse150 by the first word of its list; its ids are 1 to 150.
_ADE20K = (
    'wall,building,sky,floor,tree,ceiling,road,bed,windowpane,grass,cabinet,sidewalk,person,'
    'earth,door,table,mountain,plant,curtain,chair,car,water,painting,sofa,shelf,house,sea,'
    'mirror,rug,field,armchair,seat,fence,desk,rock,wardrobe,lamp,bathtub,railing,cushion,base,'
    'box,column,signboard,chest of drawers,counter,sand,sink,skyscraper,fireplace,refrigerator,'
    'grandstand,path,stairs,runway,case,pool table,pillow,screen door,stairway,river,bridge,'
    'bookcase,blind,coffee table,toilet,flower,book,hill,bench,countertop,stove,palm,'
    'kitchen island,computer,swivel chair,boat,bar,arcade machine,hovel,bus,towel,light,truck,'
    'tower,chandelier,awning,streetlight,booth,television receiver,airplane,dirt track,apparel,'
    'pole,land,bannister,escalator,ottoman,bottle,buffet,poster,stage,van,ship,fountain,'
    'conveyer belt,canopy,washer,plaything,swimming pool,stool,barrel,basket,waterfall,tent,bag,'
    'minibike,cradle,oven,ball,food,step,tank,trade name,microwave,pot,animal,bicycle,lake,'
    'dishwasher,screen,blanket,sculpture,hood,sconce,vase,traffic light,tray,ashcan,fan,pier,'
    'crt screen,plate,monitor,bulletin board,shower,radiator,glass,clock,flag')
# The official colour map has no rule: 151 colours as hexadecimal r, g, b.
_ADE20K_COLOURS = (
    '000000787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d787846'
    '08ff33ff06528fff8cccff04ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c'
    '7009ff08ffd607ffe0ffb8060aff47ff290a07ffffe0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff0599'
    '0633ffeb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe00099ff000000ffff470000ebff00adff'
    '1f00ff0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff000052ff00ff29'
    '00ffad0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc'
    '00ffc200ff52000aff0070ff3300ff00c2ff007aff00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb00'
    '08b8aa8500ff00ff5cb800ffff001f00b8ff00d6ffff00705cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00'
    'ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ffff007afff5000abed4d6ff0000ccff1400ffffff000099ff'
    '0029ff00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cffb8ff000085ffffd60019c2c266ff00'
    '5c00ff')


def pascal_voc_palette(count=21):
    """Pascal VOC's colours: the bits of an id, dealt to r, g, b in turn from the highest bit down.

    Args:
      count: how many, up to 256.

    Returns:
      tuple of (r, g, b) in 0..255.
    """
    colours = []
    for index in range(count):
        colour = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
        colours.append(tuple(colour))
    return tuple(colours)


def cityscapes_palette():
    """Cityscapes' colours by train id: 19 (r, g, b)."""
    return _CITYSCAPES_COLOURS


def ade20k_palette():
    """ADE20K's colours as the official DeepLab code has them: 151 (r, g, b), black for id 0."""
    data = bytes.fromhex(_ADE20K_COLOURS)
    return tuple(zip(data[0::3], data[1::3], data[2::3]))


# How the official evaluators average a class that is in neither truth nor prediction:
# - VOC's VOCevalseg.m divides 0 by 0 there, and its mean is no number; it never happens on val.
#   tf.metrics.mean_iou, with which the official DeepLab code scores, leaves it out: so do we.
# - Cityscapes' getScoreAverage leaves it out.
# - ADE20K's evaluationCode adds a tiny number to the union and averages over all 150: it is 0.
# - In the official zoo's numbering of ADE20K, 0 is an output of its own that no labelled pixel has
#   (0 is the label to ignore), and the score is tf.metrics.mean_iou's: left out. Where a network
#   says 0 on a labelled pixel, it is wrong, and class 0 is averaged as 0, as there.
SPECS = {spec.name: spec for spec in (
    DatasetSpec('pascal_voc_2012', _VOC.split(','), pascal_voc_palette(),
                citation='Everingham et al., IJCV 2015'),
    DatasetSpec('cityscapes', _CITYSCAPES.split(','), cityscapes_palette(),
                official_ids=_CITYSCAPES_IDS, categories=_CITYSCAPES_CATEGORIES.split(','),
                instance_classes=range(11, 19), official_ignore=0,
                official_void=_CITYSCAPES_VOID, citation='Cordts et al., CVPR 2016'),
    DatasetSpec('ade20k', _ADE20K.split(','), ade20k_palette()[1:], official_ids=range(1, 151),
                official_ignore=0, absent='zero', citation='Zhou et al., CVPR 2017'),
    DatasetSpec('ade20k_151', ('unlabelled', *_ADE20K.split(',')), ade20k_palette(),
                official_ids=range(151), official_ignore=0, numbering='ade20k',
                citation='Zhou et al., CVPR 2017'))}
